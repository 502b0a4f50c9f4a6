"""The extractor: whole plans, parts of plans, the planner's own readings, broken weights."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cascade.contracts import EeReadout, IncompatibleError, VideoPlan, WeightsError
from idm.plugins import IDM


def plan_with_readout(scene: SimpleNamespace, std: float = 0.001) -> VideoPlan:
    episode = scene.play_episode(5)
    plan: VideoPlan = scene.plan_of(episode)
    n = len(plan)
    plan.readout = EeReadout(
        position_m=np.linspace([0.0, 0.6, 0.25], [0.2, 0.7, 0.25], n),
        opening=np.ones(n),
        position_std_m=np.full(n, std),
        opening_std=np.full(n, std),
        source="planner-latents",
    )
    return plan


def test_the_planners_own_reading_suffices_without_pixels_or_weights(scene: SimpleNamespace) -> None:
    extractor = IDM.build(IDM.config(fuse="latents", weights=Path("nowhere")))
    observation = scene.observation_at(np.array([0.0, 0.6, 0.25]), 1.0)
    plan = plan_with_readout(scene)
    assert plan.readout is not None

    chunk = extractor.extract(plan, observation)

    assert chunk.final
    np.testing.assert_allclose(chunk.values[:-1, :3], plan.readout.position_m[1:])
    np.testing.assert_allclose(chunk.values[:, 3:], np.tile([0, 1, 0, 0], (len(chunk), 1)), atol=1e-9)
    with pytest.raises(IncompatibleError, match="readout"):
        extractor.extract(scene.plan_of(scene.play_episode(5)), observation)


def test_a_sure_planner_outweighs_the_pixels(trained: Path, scene: SimpleNamespace) -> None:
    extractor = IDM.build(IDM.config(weights=trained))
    plan = plan_with_readout(scene, std=1e-5)
    assert plan.readout is not None

    seen = extractor.read(plan, scene.observation_at(np.array([0.0, 0.6, 0.25]), 1.0))

    np.testing.assert_allclose(seen.position_m, plan.readout.position_m, atol=1e-3)


def test_in_parts_it_visits_the_whole_plan_in_order_and_then_ends(scene: SimpleNamespace) -> None:
    observation = scene.observation_at(np.array([0.0, 0.6, 0.25]), 1.0)
    whole = IDM.build(IDM.config(fuse="latents")).extract(plan_with_readout(scene), observation)
    extractor = IDM.build(IDM.config(fuse="latents", steps=4))
    plan, values, final = plan_with_readout(scene), [], False
    while not final:
        chunk = extractor.extract(plan, observation)
        values.append(chunk.values)
        final = chunk.final
        observation = scene.observation_at(chunk.values[-1, :3], 1.0)

    assert len(values) > 1
    assert all(len(v) <= 4 for v in values)
    visited = np.concatenate(values)
    np.testing.assert_allclose(visited[-1], whole.values[-1])
    assert (np.diff(visited[:, 0]) > 0).all()
    assert len(extractor.extract(plan, observation)) == 0


def test_a_new_plan_begins_anew(scene: SimpleNamespace) -> None:
    extractor = IDM.build(IDM.config(fuse="latents"))
    observation = scene.observation_at(np.array([0.0, 0.6, 0.25]), 1.0)

    first, second = (extractor.extract(plan_with_readout(scene), observation) for _ in range(2))

    np.testing.assert_allclose(first.values, second.values)


def test_missing_weights_are_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"config\.json"):
        IDM.build(IDM.config(weights=tmp_path))


def test_damaged_weights_are_refused(trained: Path, tmp_path: Path) -> None:
    for name in ("config.json", "diffusion_pytorch_model.safetensors", "SHA256SUMS"):
        (tmp_path / name).write_bytes((trained / name).read_bytes())
    content = bytearray((tmp_path / "diffusion_pytorch_model.safetensors").read_bytes())
    content[-100] ^= 0xFF
    (tmp_path / "diffusion_pytorch_model.safetensors").write_bytes(content)

    with pytest.raises(WeightsError, match="SHA-256"):
        IDM.build(IDM.config(weights=tmp_path))


def test_truncated_weights_without_sums_are_refused(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((trained / "config.json").read_bytes())
    content = (trained / "diffusion_pytorch_model.safetensors").read_bytes()
    (tmp_path / "diffusion_pytorch_model.safetensors").write_bytes(content[: len(content) // 2])

    with pytest.raises(WeightsError, match="broken"):
        IDM.build(IDM.config(weights=tmp_path))


def test_weights_for_other_actions_are_refused(trained: Path, tmp_path: Path) -> None:
    config = (trained / "config.json").read_text().replace('"base"', '"tool"')
    (tmp_path / "config.json").write_text(config)
    (tmp_path / "diffusion_pytorch_model.safetensors").write_bytes(
        (trained / "diffusion_pytorch_model.safetensors").read_bytes()
    )

    with pytest.raises(IncompatibleError, match="frame"):
        IDM.build(IDM.config(weights=tmp_path))
