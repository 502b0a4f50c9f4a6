"""Inverse dynamics on latents: learns from a planner's own plans, loads, extracts, refuses what it does not know."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cascade.contracts import (
    ConfigError,
    DataError,
    Episode,
    IncompatibleError,
    Observation,
    PlanLatents,
    VideoPlan,
    WeightsError,
)
from idm.latent_data import observe
from idm.plugins import IDM, LATENT_TRAINER

K = np.array([[100.0, 0, 16], [0, 100.0, 16], [0, 0, 1]])
T_BASE_CAM = np.diag([1.0, -1, -1, 1])
FRAMES, STEPS = 17, 30


def episode(seed: int, *, kind: str = "expert") -> Episode:
    """A hand that goes to a goal, which the first image shows as a white spot."""
    rng = np.random.default_rng(seed)
    goal = rng.uniform(-0.12, 0.12, 2)
    position = np.concatenate([np.linspace(0, 1, STEPS)[:, None] * goal, np.full((STEPS, 1), 0.1)], 1)
    image = np.full((32, 32, 3), 60, np.uint8)
    u, v = round(16 + 100 * goal[0]), round(16 - 100 * goal[1])
    image[max(v - 2, 0) : v + 3, max(u - 2, 0) : u + 3] = 255
    return Episode(
        frames={"corner": np.repeat(image[None], STEPS, 0)},
        K={"corner": K},
        T_base_cam={"corner": T_BASE_CAM},
        ee_position_m=position,
        gripper_opening=np.where(np.arange(STEPS) < 22, 1.0, 0.2),
        action=np.zeros((STEPS, 8)),
        fps=20.0,
        instruction="go there",
        task="door-open",
        kind=kind,
        success=kind == "expert",
        seed=seed,
    )


@dataclass(frozen=True)
class Demonstrations:
    count: int = 24
    digest: str = "drawn"
    kind: str = "expert"

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Episode:
        return episode(index, kind=self.kind)


class SpotPlanner:
    """Its latents are the observed image, smaller and ever brighter; it never draws."""

    def __init__(self, space: str = "spots/1", length: int = 5, latents: bool = True) -> None:
        self.space, self.length, self.latents, self.calls = space, length, latents, 0
        self.needs = SimpleNamespace(cameras=("corner",))

    def plan(self, observation: Observation, instruction: str, *, seed: int, **_: Any) -> list[VideoPlan]:
        self.calls += 1
        rgb = observation.image("corner").rgb
        small = rgb.reshape(16, 2, 16, 2, 3).mean((1, 3)).transpose(2, 0, 1) / 255
        ramp = np.linspace(0.5, 1, self.length)[:, None, None, None]
        values = (ramp * small[None]).astype(np.float32)
        from cascade.contracts import ImageTransform

        return [
            VideoPlan(
                instruction=instruction,
                camera="corner",
                transform=ImageTransform(crop_px=(0, 0, 32, 32), size_px=(32, 32)),
                decode=lambda: pytest.fail("nobody may look at a pixel"),
                length=FRAMES,
                latents=PlanLatents(values=values, space=self.space) if self.latents else None,
                seed=seed,
                provenance={"planner": "spots"},
            )
        ]


def train(planner: Any, folder: Path, *, resume: bool = False, data: Any = None, **options: Any) -> dict[str, Any]:
    defaults = {"steps": 5, "windows": 1, "threads": 1, "batch": 16, "width": 16, "hidden": 32, "ema": 0.9}
    trainer = LATENT_TRAINER.build(LATENT_TRAINER.config(**{**defaults, **options}))
    trainer._planner = lambda: planner
    return dict(trainer.train(data or Demonstrations(), folder, resume=resume))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("latents") / "idm"
    train(SpotPlanner(), folder, steps=100, learning_rate=6e-3, held_out=0.2)
    return folder


def extractor(folder: Path) -> Any:
    return IDM.build(IDM.config(weights=folder, threads=1))


def test_it_learns_where_the_hand_will_go(trained: Path) -> None:
    scores = json.loads((trained / "scores.json").read_text())
    ends = np.stack([episode(i).ee_position_m[:, :2] for i in range(24)])
    constant_mm = 1000 * np.linalg.norm(ends - ends.mean((0, 1)), axis=-1).mean()

    assert scores["position_error_mean_mm"] < 0.5 * constant_mm
    assert scores["space"] == "spots/1"


def test_card_and_sums_are_written_and_the_card_says_how(trained: Path) -> None:
    card = (trained / "MODEL_CARD.md").read_text()
    assert "--reads latents" in card
    assert "spots/1" in card
    assert "SHA256SUMS" in {path.name for path in trained.iterdir()}


def test_a_plan_is_extracted_without_a_pixel(trained: Path) -> None:
    seen = observe(episode(40), "corner", 0)
    stage = extractor(trained)
    plan = SpotPlanner().plan(seen, "go there", seed=0)[0]
    readout = stage.read(plan, seen)
    chunk = stage.extract(plan, seen)

    assert not plan.decoded
    assert stage.needs.latent_space == "spots/1"
    np.testing.assert_array_equal(readout.position_m[0], seen.arm.position_m)
    assert np.linalg.norm(readout.position_m[-1] - episode(40).ee_position_m[-1]) < 0.06
    assert chunk.final
    assert len(chunk) > 3
    assert chunk.provenance["readout"] == "idm-latents"
    assert chunk.provenance["weights"]


def test_another_latent_space_is_refused_with_both_sides_named(trained: Path) -> None:
    seen = observe(episode(40), "corner", 0)
    plan = SpotPlanner("spots/2").plan(seen, "go there", seed=0)[0]

    with pytest.raises(IncompatibleError, match=r"spots/1.*spots/2"):
        extractor(trained).extract(plan, seen)


def test_latents_of_another_form_are_refused(trained: Path) -> None:
    seen = observe(episode(40), "corner", 0)
    plan = SpotPlanner(length=7).plan(seen, "go there", seed=0)[0]

    with pytest.raises(IncompatibleError, match=r"5, 3, 16, 16, 17.*7, 3, 16, 16, 17"):
        extractor(trained).extract(plan, seen)


def test_a_camera_that_moved_is_refused(trained: Path) -> None:
    seen = observe(replace(episode(40), T_base_cam={"corner": np.diag([1.0, 1, 1, 1])}), "corner", 0)
    plan = SpotPlanner().plan(seen, "go there", seed=0)[0]

    with pytest.raises(IncompatibleError, match="pose"):
        extractor(trained).extract(plan, seen)


def test_plans_are_made_once_and_training_resumes(tmp_path: Path) -> None:
    planner = SpotPlanner()
    first = train(planner, tmp_path)
    made = planner.calls
    again = train(planner, tmp_path, resume=True, steps=8)

    assert (first["steps"], again["steps"]) == (5, 8)
    assert made == 24 + 1
    assert planner.calls == made + 1  # one, to see that it is still the same planner


def test_plans_of_another_planner_are_not_taken_for_this_ones(tmp_path: Path) -> None:
    train(SpotPlanner(), tmp_path)

    with pytest.raises(ConfigError, match=r"spots/3.*spots/1"):
        train(SpotPlanner("spots/3"), tmp_path)


def test_a_planner_without_latents_is_told_how_to_give_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="latents"):
        train(SpotPlanner(latents=False), tmp_path)


def test_play_is_not_enough(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="demonstrations"):
        train(SpotPlanner(), tmp_path, data=Demonstrations(kind="play"))


def test_one_map_for_the_whole_plan_is_enough(tmp_path: Path) -> None:
    scores = train(SpotPlanner(length=1), tmp_path, steps=8)
    config = json.loads((tmp_path / "config.json").read_text())

    assert config["shape"] == [1, 3, 16, 16]
    assert np.isfinite(scores["position_error_mean_mm"])


def test_damaged_weights_are_refused(trained: Path, tmp_path: Path) -> None:
    for path in trained.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    tensors = tmp_path / "diffusion_pytorch_model.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-7] + b"garbage")

    with pytest.raises(WeightsError, match="SHA-256"):
        extractor(tmp_path)
