"""Trials: one plan, good or spoiled, followed to its end without a gate, with everything that can be known about it.

Success is what the simulation's judge says. Evidence of each trial is kept in a file of its own, so that cues can be
computed anew without moving anything; trials that are there are not run again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.config import RecipeConfig, RigConfig
from cascade.contracts.errors import ConfigError
from cascade.contracts.interfaces import PlanReader, Rig
from cascade.contracts.keyframes import keyframe_indices
from cascade.contracts.records import ActionChunk, CameraImage, Observation, VideoPlan
from cascade.events import Look, NoRecord, weights_of
from cascade.follower import ControlStep
from cascade.outcome import EpisodeResult
from cascade.pipeline import Stages, build_stages
from cascade.plugins import build_plugin
from cascade.runtime import run_episode
from cascade.testing.spoiled import SpoiledPlanner, object_mask
from cascade.testing.spoils import SPOILED, Spoil

Row = dict[str, Any]
PICTURE_EVERY = 4  # control steps
LEAST_STRENGTH = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One plan on one layout."""

    task: str
    seed: int
    kind: Spoil
    strength: float

    @property
    def key(self) -> str:
        """Its name, also of its evidence file."""
        return f"{self.task}-{self.seed}-{self.kind.value}"


def trials(tasks: Sequence[str], seeds: Sequence[int], *, spoils: int = 2) -> list[Trial]:
    """Return for every layout the good plan and `spoils` spoiled ones; the kinds take turns over tasks and seeds."""
    found = []
    for seed in seeds:
        for number, task in enumerate(tasks):
            found.append(Trial(task=task, seed=seed, kind=Spoil.NONE, strength=0.0))
            rng = np.random.default_rng([seed, number])
            for turn in range(spoils):
                kind = SPOILED[(number + seed * spoils + turn) % len(SPOILED)]
                strength = round(float(rng.uniform(LEAST_STRENGTH, 1.0)), 3)
                found.append(Trial(task=task, seed=seed, kind=kind, strength=strength))
    return found


class Bench:
    """A rig and the stages of a recipe, its planner wrapped so that its plans can be spoiled.

    Args:
        rig: a simulated one.
        recipe: whose plans and whose reading.
        instructions: task -> sentence, for plans of other tasks.
    """

    def __init__(self, rig: RigConfig, recipe: RecipeConfig, instructions: dict[str, str]) -> None:
        # Every plan is to be followed to its end: the gate must not judge what it is fitted on.
        free = recipe.gate.model_copy(update={"first_frame": False, "motion": False, "calibration": None})
        once = recipe.execution.model_copy(update={"replans": 0})
        self._recipe = recipe.model_copy(update={"gate": free, "execution": once})
        built: Rig = build_plugin("rig", rig.plugin, {**rig.options, "arm_process": False})
        self.rig = built.__enter__()
        if self.rig.monitor is None:
            raise ConfigError(f"rig {rig.name!r}: expected a simulated one with a judge, found none.")
        stages = build_stages(self._recipe)
        self._planner = _Watched(SpoiledPlanner(stages.planner, rig=rig.name))
        self.stages = Stages(self._recipe, self._planner, stages.extractor, stages.reader)
        self._instructions = instructions

    def close(self) -> None:
        """Let go of rig and stages."""
        self.stages.close()
        self.rig.__exit__(None, None, None)

    def run(self, trial: Trial) -> tuple[Row, dict[str, NDArray[Any]]]:
        """Run one trial; return its row as JSON values and its evidence as arrays."""
        planner = self._planner.inner
        planner.kind, planner.strength = trial.kind, trial.strength
        others = [text for task, text in sorted(self._instructions.items()) if task != trial.task]
        planner.other_instruction = others[trial.seed % len(others)] if others else ""
        notes = _Notes()
        result = run_episode(self.rig, self.stages, instruction=None, task=trial.task, seed=trial.seed, recorder=notes)
        row = _row(trial, result, notes)
        plan, observation = notes.made, self._planner.seen
        if plan is None or observation is None or result.error is not None:
            return row, {}
        row["instruction"] = plan.instruction
        return row, self._evidence(plan, observation, notes)

    def _evidence(self, plan: VideoPlan, observation: Observation, notes: _Notes) -> dict[str, NDArray[Any]]:
        image = observation.image(plan.camera)
        arrays: dict[str, NDArray[Any]] = {
            "frames": plan.frames,
            "camera": image.rgb,
            "K": image.K,
            "T_base_ee": observation.arm.T_base_ee,
            "opening": np.array(observation.arm.gripper_opening),
            "crop_px": np.array(plan.transform.crop_px),
        }
        optional = {
            "depth_m": None if image.depth_m is None else image.depth_m.astype(np.float16),
            "T_base_cam": image.T_base_cam,
            "mask": object_mask(plan, observation),
        }
        arrays |= {name: value for name, value in optional.items() if value is not None}
        if isinstance(self.stages.extractor, PlanReader):
            hand = self.stages.extractor.read(plan.pixels_only(), observation)
            arrays |= {"hand_m": hand.position_m, "hand_std_m": hand.position_std_m, "hand_opening": hand.opening}
            arrays["hand_opening_std"] = hand.opening_std
        return arrays | notes.arrays(len(plan), plan)


def _row(trial: Trial, result: EpisodeResult, notes: _Notes) -> Row:
    return {
        "key": trial.key,
        "task": trial.task,
        "seed": trial.seed,
        "kind": trial.kind.value,
        "strength": trial.strength,
        "success": bool(result.success),
        "outcome": result.outcome,
        "failure_stage": result.failure_stage,
        "steps": result.steps,
        "weights": notes.weights,
        "error": str(result.error) if result.error else None,
    }


class _Watched:
    """Remembers what a planner saw (a Planner, and EpisodeAware)."""

    def __init__(self, inner: SpoiledPlanner) -> None:
        self.inner = inner
        self.needs = inner.needs
        self.seen: Observation | None = None

    def begin(self, *, task: str, seed: int) -> None:
        self.inner.begin(task=task, seed=seed)

    def plan(
        self,
        observation: Observation,
        instruction: str,
        *,
        seed: int,
        goal: CameraImage | None = None,
        samples: int = 1,
    ) -> list[VideoPlan]:
        self.seen = observation
        return self.inner.plan(observation, instruction, seed=seed, goal=goal, samples=samples)

    def close(self) -> None:
        self.inner.close()


class _Notes(NoRecord):
    """Keeps the plan, its first chunk, the path of the hand and pictures of the way."""

    def __init__(self) -> None:
        self.made: VideoPlan | None = None
        self.weights: dict[str, str] = {}
        self._chunks: list[ActionChunk] = []
        self._path: list[NDArray[np.float64]] = []
        self._opening: list[float] = []
        self._pictures: dict[int, NDArray[np.uint8]] = {}

    def plan(self, index: int, plan: VideoPlan) -> None:
        self.made = plan
        self.weights |= weights_of(plan.provenance)

    def chunk(self, index: int, plan: int, chunk: ActionChunk) -> None:
        self.weights |= weights_of(chunk.provenance)
        self._chunks.append(chunk)

    def picture(self, number: int, t_s: float, look: Look) -> None:
        self._pictures[0] = look()

    def step(self, number: int, t_s: float, plan: int, chunk: int, step: ControlStep, look: Look) -> None:
        self._path.append(step.state.position_m)
        self._opening.append(step.state.gripper_opening)
        if number % PICTURE_EVERY == 0:
            self._pictures[number] = look()

    def arrays(self, count: int, plan: VideoPlan) -> dict[str, NDArray[Any]]:
        """Return what was done as arrays; pictures are one per plan frame, on the plan's clock."""
        found: dict[str, NDArray[Any]] = {}
        filled = [chunk for chunk in self._chunks if len(chunk)]
        if filled:
            found["targets_m"] = np.concatenate([chunk.values[:, :3] for chunk in filled])
            found["targets_gripper"] = np.concatenate([chunk.gripper for chunk in filled])
            found["targets_times_s"] = np.concatenate([chunk.times_s for chunk in filled])
        if len(self._path) < 2:
            return found
        path, opening = np.array(self._path), np.array(self._opening)
        found |= {"measured_m": path, "measured_opening": opening}
        numbers = np.array(sorted(self._pictures))
        chosen = keyframe_indices(path, opening, count - 1)
        nearest = [int(numbers[np.abs(numbers - index - 1).argmin()]) for index in chosen]
        found["executed"] = np.stack([plan.transform.apply(self._pictures[number]) for number in nearest])
        return found


def read_rows(path: Path) -> list[Row]:
    """Read finished trials; a last line cut off by a kill is left out."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def run_trials(
    wanted: Sequence[Trial],
    output: Path,
    make: Callable[[], Bench],
) -> Iterator[Row]:
    """Run the trials that `output` lacks; yields every row, those of earlier runs first.

    Args:
        wanted: what to run.
        output: folder of `trials.jsonl` and of one evidence file per trial.
        make: builds the bench, if anything is to be run.

    A trial that ends with an error has its row and no evidence; nothing is fitted on it.

    Raises:
        ConfigError: the folder cannot be written.
    """
    rows = {row["key"]: row for row in read_rows(output / "trials.jsonl")}
    try:
        output.mkdir(parents=True, exist_ok=True)
        lines = "".join(json.dumps(row) + "\n" for row in rows.values())
        (output / "trials.jsonl").write_text(lines, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{output}: cannot be written ({error.strerror}).", "Choose another folder.") from error
    yield from (rows[trial.key] for trial in wanted if trial.key in rows)
    missing = [trial for trial in wanted if trial.key not in rows]
    if not missing:
        return
    bench = make()
    try:
        with (output / "trials.jsonl").open("a", encoding="utf-8") as file:
            for trial in missing:
                row, evidence = bench.run(trial)
                if evidence:
                    np.savez_compressed(output / f"{trial.key}.npz", **evidence)  # type: ignore[arg-type]
                file.write(json.dumps(row) + "\n")
                file.flush()
                yield row
    finally:
        bench.close()
