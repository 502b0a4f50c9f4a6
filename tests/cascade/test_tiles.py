"""Several views in one plan, and reading them where they move."""

import numpy as np
import pytest

from cascade.contracts import CameraImage, IncompatibleError, Needs, Observation
from cascade.contracts.plan_file import load_plan, save_plan
from cascade.gate import check_plan
from cascade.masked import MaskedConfig, MaskedExtractor, masked, moving
from cascade.plugins import build_plugin
from cascade.testing.scenes import tabletop_observation, tabletop_plan
from cascade.tiles import combined, first_view, tiled, views


def two_views():
    """The table through two cameras at one place, so that both are true."""
    one = tabletop_observation()
    image = one.image("corner")
    other = CameraImage(rgb=image.rgb[:, ::-1].copy(), K=image.K, stamp_s=0.0)
    observation = Observation(images={"corner": image, "corner2": other}, arm=one.arm)
    first = tabletop_plan(observation)
    second = tabletop_plan(one)
    mirrored = type(first)(
        instruction=first.instruction,
        camera="corner2",
        transform=second.transform,
        frames=second.frames[:, :, ::-1],
        readout=second.readout,
        provenance={"planner": "tabletop", "ms": {"denoise": 2.0}},
    )
    first.provenance["ms"] = {"denoise": 1.0}
    return observation, first, mirrored


def test_a_tiled_plan_shows_its_views_side_by_side_and_comes_apart_again(tmp_path):
    _, first, second = two_views()
    plan = tiled([first, second])
    assert len(plan) == 17
    assert plan.frames.shape == (17, 128, 256, 3)
    assert plan.camera == "corner"
    assert plan.provenance["ms"] == {"denoise": 3.0}
    for whole in (plan, load_plan(save_plan(plan, tmp_path / "plan"))):
        a, b = views(whole)
        assert (a.camera, b.camera) == ("corner", "corner2")
        np.testing.assert_array_equal(a.frames, first.frames)
        np.testing.assert_array_equal(b.frames, second.frames)
        assert b.transform == second.transform


def test_nothing_is_decoded_before_somebody_looks():
    _, first, second = two_views()
    assert not tiled([first, second]).decoded


def test_the_gate_looks_at_the_view_of_the_plan_s_own_camera():
    from cascade.compose import compose

    observation, first, second = two_views()
    run, _ = compose(instruction="x", task=None, seed=0, rig="sim", recipe="vidar")
    report = check_plan(first_view(tiled([first, second])), observation, run.recipe.gate)
    assert report.verdict.value == "pass"


def test_readings_count_by_how_sure_they_are():
    _, first, second = two_views()
    sure, unsure = first.readout, second.readout
    moved = type(unsure)(
        position_m=unsure.position_m + 0.1,
        opening=unsure.opening,
        position_std_m=unsure.position_std_m * 3,
        opening_std=unsure.opening_std,
        source="other",
    )
    both = combined([sure, moved])
    np.testing.assert_allclose(both.position_m - sure.position_m, 0.01, atol=1e-12)
    assert (both.position_std_m < sure.position_std_m).all()
    assert both.source == "tabletop+other"
    assert both.progress is sure.progress


def test_flicker_in_what_stands_still_is_taken_out_and_motion_stays():
    plan = tabletop_plan()
    frames = plan.frames.astype(np.int16)
    flicker = np.random.default_rng(0).integers(-5, 6, frames.shape)
    noisy = np.clip(frames + flicker, 0, 255).astype(np.uint8)
    noisy[0] = plan.frames[0]
    mask = moving(noisy, still_levels=12, grow_px=2)
    really = np.abs(frames - frames[0]).max(axis=(0, 3)) > 20
    assert mask[really].mean() > 0.99
    assert mask.mean() < 0.5
    shown, share = masked(
        type(plan)(instruction="x", camera="corner", transform=plan.transform, frames=noisy), still_levels=12, grow_px=2
    )
    assert share == pytest.approx(mask.mean())
    np.testing.assert_array_equal(
        shown.frames[:, ~mask], np.broadcast_to(noisy[0][~mask], shown.frames[:, ~mask].shape)
    )
    np.testing.assert_array_equal(shown.frames[:, mask], noisy[:, mask])


class KnowsOneView:
    """Reads the plan of one camera as the table's truth; knows no other."""

    needs = Needs()

    def __init__(self, camera):
        self.camera, self.seen = camera, []

    def read(self, plan, observation):
        self.seen.append(plan.camera)
        if plan.camera != self.camera:
            raise IncompatibleError(f"camera {plan.camera!r} is not known.")
        return tabletop_plan(observation).readout


def extractor_of(camera, **options):
    reader = KnowsOneView(camera)
    return reader, MaskedExtractor(
        reader, build_plugin("extractor", "idm", {"fuse": "latents"}), MaskedConfig(**options)
    )


def test_views_that_the_network_does_not_know_are_left_out():
    observation, first, second = two_views()
    plan = tiled([first, second])
    reader, extractor = extractor_of("corner2", fuse="pixels")
    chunk = extractor.extract(plan, observation)
    assert reader.seen == ["corner", "corner2"]
    assert chunk.provenance["views_read"] == ["corner2"]
    assert chunk.provenance["extractor"] == "masked-idm"
    assert len(chunk) > 5
    assert len(extractor.extract(plan, observation)) == 0, "it goes on where the plan has got to"
    assert reader.seen == ["corner", "corner2"], "and reads it once"


def test_a_plan_without_any_reading_is_refused():
    observation, first, second = two_views()
    plan = tiled([first, second])
    plan.readout = None
    _, extractor = extractor_of("top")
    with pytest.raises(IncompatibleError, match="not known"):
        extractor.extract(plan, observation)


def test_the_tiled_planner_imagines_the_views_that_the_rig_has():
    observation, _, _ = two_views()
    options = {"planner": "hold", "cameras": ["corner", "corner2", "corner3"]}
    planner = build_plugin("planner", "tiled", options)
    plans = planner.plan(observation, "hold still", seed=0, samples=2)
    assert len(plans) == 2
    assert [view.camera for view in views(plans[0])] == ["corner", "corner2"]
    assert planner.needs.cameras == ("corner", "corner2", "corner3")
    blind = Observation(images={"top": observation.image("corner")}, arm=observation.arm)
    with pytest.raises(IncompatibleError, match="corner3"):
        planner.plan(blind, "hold still", seed=0)
