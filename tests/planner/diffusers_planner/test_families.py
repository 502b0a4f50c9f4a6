"""What is decided from configuration alone: which family, which sizes, which words."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cascade.contracts import ConfigError, DataError
from planner.diffusers_planner import families
from planner.diffusers_planner.families import FAMILIES, find_family
from planner.diffusers_planner.memory import what_to_lower
from planner.diffusers_planner.options import AdapterConfig, DiffusersConfig
from planner.diffusers_planner.prompts import check_profile, write_prompt
from planner.diffusers_planner.sizes import Canvas, as_bytes, choose_canvas, choose_frames

WAN = {"_class_name": "WanImageToVideoPipeline"}


def family_of(index, transformer=None, *, pipeline=None, adapter=None):
    return find_family(index, transformer or {}, pipeline=pipeline, adapter=adapter).name


def test_the_four_wans_are_told_apart_by_their_configuration():
    assert family_of(WAN | {"boundary_ratio": None}) == "wan21-i2v"
    assert family_of(WAN, {"pos_embed_seq_len": 514}) == "wan21-flf2v"
    assert family_of(WAN | {"boundary_ratio": 0.9}) == "wan22-i2v-a14b"
    assert family_of(WAN | {"expand_timesteps": True}) == "wan22-ti2v"


def test_weights_stored_under_their_text_only_class_are_found():
    assert family_of({"_class_name": "LTXPipeline"}) == "ltx-i2v"
    assert family_of({"_class_name": "WanPipeline", "expand_timesteps": True}) == "wan22-ti2v"
    assert family_of({"_class_name": "LTXPipeline"}, pipeline="LTXConditionPipeline") == "ltx-condition"


def test_a_model_that_sees_no_image_is_refused():
    with pytest.raises(ConfigError, match="sees no image"):
        family_of({"_class_name": "WanPipeline", "boundary_ratio": 0.8})


def test_an_unknown_class_is_named_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"'LTXImageToVideoPipelin'.*adapter.*LTXImageToVideoPipeline'\?"):
        family_of({"_class_name": "LTXImageToVideoPipelin"})


def test_the_two_cogvideox_differ_by_patches_in_time():
    index = {"_class_name": "CogVideoXImageToVideoPipeline"}
    assert family_of(index, {"patch_size_t": 2}) == "cogvideox15-i2v"
    old = find_family(index, {"sample_width": 90, "sample_height": 60}, pipeline=None, adapter=None)
    assert (old.name, old.width_px, old.height_px) == ("cogvideox-i2v", 720, 480)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_record_is_legal_by_its_own_rules(family):
    assert choose_frames(family, family.num_frames) == family.num_frames
    assert family.width_px % 8 == family.height_px % 8 == 0
    canvas = choose_canvas(family, None, None)
    assert canvas.size_px[0] % family.multiple_px == 0
    pixels = canvas.size_px[0] * canvas.size_px[1]
    assert pixels == pytest.approx(family.width_px * family.height_px, rel=0.12)


def test_the_default_canvas_is_the_view_itself_unless_the_size_is_fixed():
    assert choose_canvas(families.WAN21, None, None).size_px == (624, 624)
    fixed = choose_canvas(families.COGVIDEOX, None, None)
    assert (fixed.size_px, fixed.box_px) == ((720, 480), (120, 0, 480))


@pytest.mark.parametrize(("width", "match"), [(500, "Use 496"), (8, "Use 16")])
def test_illegal_sizes_come_with_the_nearest_legal_one(width, match):
    with pytest.raises(ConfigError, match=match):
        choose_canvas(families.WAN21, width, None)


def test_a_fixed_size_cannot_be_changed():
    with pytest.raises(ConfigError, match="720x480 only"):
        choose_canvas(families.COGVIDEOX, 480, 480)


@pytest.mark.parametrize(
    ("family", "count", "match"), [(families.WAN21, 80, "Use 81"), (families.LTX, 4, "Use 9"), (families.LTX, 2, "k.1")]
)
def test_illegal_frame_counts_come_with_the_nearest_legal_one(family, count, match):
    with pytest.raises(ConfigError, match=match):
        choose_frames(family, count)


@settings(deadline=None, max_examples=40)
@given(width=st.integers(2, 40), height=st.integers(2, 40), size=st.sampled_from([24, 64, 128]), seed=st.integers(0, 9))
def test_what_is_placed_on_the_canvas_is_cut_out_again(width, height, size, seed):
    canvas = Canvas.around(16 * width, 16 * height)
    rows, columns = np.mgrid[0:size, 0:size] / size
    phase = np.random.default_rng(seed).uniform(0, 6, 3)
    view = (127 + 100 * np.sin(2 * rows[..., None] + 2 * columns[..., None] + phase)).astype(np.uint8)
    picture = canvas.place(view)
    assert picture.shape == (16 * height, 16 * width, 3)
    back = canvas.cut(picture[None], size)[0]
    assert np.abs(back.astype(int) - view).mean() < 4


def test_only_the_view_is_cut_out():
    canvas = Canvas.around(96, 32)
    video = np.zeros((2, 32, 96, 3), np.uint8)
    video[:, :, 32:64] = 200
    assert (canvas.cut(video, 16) == 200).all()
    assert (canvas.cut(video[:, ::2, ::2], 16) == 200).all()  # a pipeline that works at half the size


def test_a_video_of_another_shape_is_refused():
    with pytest.raises(DataError, match="96x32"):
        Canvas.around(96, 32).cut(np.zeros((2, 32, 32, 3), np.uint8), 16)


@pytest.mark.parametrize(
    ("video", "match"),
    [
        (np.zeros((1, 8, 8, 3)), "2 frames"),
        (np.zeros((4, 8, 8)), "shape|found"),
        (np.full((2, 8, 8, 3), np.nan), "NaN"),
    ],
)
def test_what_is_no_video_is_refused(video, match):
    with pytest.raises(DataError, match=match):
        as_bytes(video)


def test_pixels_are_rounded_and_clipped():
    video = np.zeros((2, 1, 3, 3), np.float32)
    video[:, 0] = np.array([-0.1, 0.5, 1.2])[:, None]
    assert as_bytes(video)[0, 0, :, 0].tolist() == [0, 128, 255]


def test_an_instruction_becomes_the_profile_s_text():
    assert write_prompt(check_profile("plain"), " open  the door. ") == "open the door"
    assert "task: open the door." in write_prompt(check_profile("robot"), "open the door")
    assert write_prompt(check_profile("A robot: {instruction} {now}"), "go") == "A robot: go {now}"


def test_wrong_profiles_and_empty_instructions_are_refused():
    with pytest.raises(ConfigError, match="Did you mean 'robot'"):
        check_profile("robots")
    with pytest.raises(ConfigError, match="found none"):
        write_prompt("{instruction}", " . ")


def test_the_advice_on_memory_leaves_out_what_is_done():
    advice = what_to_lower(DiffusersConfig(vae_tiling=True, offload="model", dtype="float32"), gpu=True)
    assert "vae_tiling" not in advice
    assert "offload: model" not in advice
    assert "offload" not in what_to_lower(DiffusersConfig(), gpu=False)
    assert advice.index("sequential") < advice.index("bfloat16") < advice.index("num_frames")


def test_an_adapter_becomes_a_record():
    adapter = AdapterConfig(image="first", goal="last", frame_step=8, fps=12.0)
    found = find_family({"_class_name": "NewPipeline"}, {}, pipeline=None, adapter=adapter)
    assert (found.pipeline, found.image_argument, found.goal_argument) == ("NewPipeline", "first", "last")
    assert (found.frame_step, found.fps, found.caches_prompt) == (8, 12.0, False)


def test_unknown_options_are_errors():
    with pytest.raises(ValidationError, match="guidence"):
        DiffusersConfig(guidence=3.0)  # type: ignore[call-arg]


def documented_options():
    import re
    from pathlib import Path

    import yaml

    page = (Path(__file__).parents[3] / "docs" / "diffusers-planners.md").read_text()
    found = [yaml.safe_load(block) for block in re.findall(r"^ *```yaml\n(.*?)^ *```", page, re.MULTILINE | re.DOTALL)]
    return [values["planner"]["options"] if "planner" in values else values for values in found]


@pytest.mark.parametrize("options", documented_options())
def test_the_options_shown_in_the_guide_exist(options):
    config = DiffusersConfig.model_validate(options)
    assert config.model_dump(exclude_unset=True).keys() == options.keys()


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_table_of_families_says_what_the_records_say(family):
    from pathlib import Path

    page = (Path(__file__).parents[3] / "docs" / "diffusers-planners.md").read_text()
    (row,) = [line for line in page.splitlines() if line.startswith(f"| `{family.name}`")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    size = "fixed" if family.fixed_size else str(family.multiple_px)
    goal = "required" if family.needs_goal else "yes" if family.goal_argument else "no"
    native = f"{family.width_px}x{family.height_px}, {family.num_frames}"
    effort = f"{family.steps}, {family.guidance:g}"
    assert cells[2:] == [f"{family.frame_step}k+1", size, native, effort, f"{family.fps:g}", goal]


def test_a_missing_library_is_named_with_the_way_to_get_it(monkeypatch, tmp_path):
    import sys

    from planner.plugins import DIFFUSERS

    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r'pip install "cascade-wam\[diffusers\]"'):
        DIFFUSERS.build(DiffusersConfig(model=str(tmp_path)))
