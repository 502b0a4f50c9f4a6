"""`cascade train gate`: demonstrations, trials, cues, fit; each part is kept and gone on with."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade.calibration_gate.calibration import GateCalibration
from cascade.calibration_gate.demonstrations import demonstrate
from cascade.calibration_gate.fitting import calibrate, cues_of_trials
from cascade.calibration_gate.trials import Bench, Row, run_trials, trials
from cascade.config import RecipeConfig, RigConfig
from cascade.contracts.errors import ConfigError, IncompatibleError
from cascade.contracts.interfaces import Rig
from cascade.contracts.records import Limits
from cascade.goal import GoalModel, fit_goals
from cascade.plugins import build_plugin
from cascade.value.model import SHIPPED, ValueModel

FIRST_DEMONSTRATION = 20_000  # seed of the first layout shown by the expert: far from any trial's
SIZE_PX = 128
Progress = Callable[[str, int, int], None]  # part, done, of how many


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What is run and fitted.

    Attributes:
        rig: simulated; `recipe`: whose plans, read by whom.
        tasks: their names; `seeds`: layouts of the trials.
        spoils: spoiled plans per layout, beside the good one.
        demonstrations: per task, for the goal check.
        camera: the view of the plans.
        target: success rate among the plans let through that is aimed at.
        value: folder of the learned value that is one of the cues where it knows the camera, or None.
    """

    rig: RigConfig
    recipe: RecipeConfig
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    spoils: int = 2
    demonstrations: int = 40
    camera: str = "corner"
    target: float = 0.9
    value: Path | None = SHIPPED

    def values(self) -> dict[str, Any]:
        """What must be equal for a session to be gone on with, as JSON values."""
        return {
            "rig": self.rig.model_dump(mode="json"),
            "recipe": self.recipe.model_dump(mode="json"),
            "tasks": list(self.tasks),
            "spoils": self.spoils,
            "camera": self.camera,
        }


def train_gate(
    session: Session, output: Path, *, resume: bool = False, progress: Progress = lambda part, done, of: None
) -> GateCalibration:
    """Run what is missing, fit, and write `gate.json` with its goal model into `output`.

    Raises:
        ConfigError: the folder holds another session, or one and `resume` is not set.
        CascadeError: stages cannot be built, or the trials do not suffice.
    """
    _open(session, output, resume=resume)
    value = session_value(session)
    goals = fit_session_goals(session, output, progress)
    rows = run_session_trials(session, output, progress)
    done = 0

    def one() -> None:
        nonlocal done
        done += 1
        progress("cues", done, len(rows))

    cues = cues_of_trials(output, rows, goals, value, limits_of(session.rig), on_row=one)
    calibration = calibrate(output, rows, cues, goals, value, camera=session.camera, target=session.target)
    calibration.save(output)
    return calibration


def session_value(session: Session) -> ValueModel | None:
    """Return the learned value of a session, or None where there is none or it knows another camera.

    Raises:
        WeightsError: the folder holds none.
        IncompatibleError: it is not the shipped one, and knows another camera.
    """
    if session.value is None:
        return None
    found = ValueModel.load(session.value)
    if found.camera == session.camera:
        return found
    if session.value != SHIPPED:
        raise IncompatibleError(
            f"learned value {session.value}: expected one for camera {session.camera!r}, found {found.camera!r}.",
            f"Train one: cascade train value DATA -o DIR --set camera={session.camera}; or leave it out.",
        )
    return None


def fit_session_goals(session: Session, output: Path, progress: Progress = lambda part, done, of: None) -> GoalModel:
    """Return the goal model, fitted on the expert's demonstrations in `output` and those it lacks."""
    total, done = session.demonstrations * len(session.tasks), 0

    def one() -> None:
        nonlocal done
        done += 1
        progress("demonstrations", done, total)

    seeds = range(FIRST_DEMONSTRATION, FIRST_DEMONSTRATION + session.demonstrations)
    path = output / "demonstrations.npz"
    shown = demonstrate(session.rig, session.tasks, seeds, path, camera=session.camera, size_px=SIZE_PX, on_row=one)
    return fit_goals(shown)


def run_session_trials(session: Session, output: Path, progress: Progress = lambda part, done, of: None) -> list[Row]:
    """Run the session's trials and return their rows, those that ended with an error left out."""
    wanted = trials(session.tasks, session.seeds, spoils=session.spoils)
    rows: list[Row] = []
    for number, row in enumerate(run_trials(wanted, output, lambda: bench_of(session))):
        rows.append(row)
        progress("trials", number + 1, len(wanted))
    return [row for row in rows if not row["error"]]


def bench_of(session: Session) -> Bench:
    """Return the rig and stages of a session."""
    return Bench(session.rig, session.recipe, instructions_of(session.rig, session.tasks))


def instructions_of(rig: RigConfig, tasks: Sequence[str]) -> dict[str, str]:
    """Return task -> the rig's own sentence.

    Raises:
        ConfigError: the rig has no judge, which simulated ones have.
    """
    built: Rig = build_plugin("rig", rig.plugin, {**rig.options, "arm_process": False})
    found = {}
    with built:
        for task in tasks:
            built.reset(task=task, seed=0)
            if built.monitor is None:
                raise ConfigError(f"rig {rig.name!r}: expected a simulated one with a judge, found none.")
            found[task] = built.monitor.instruction
    return found


def limits_of(rig: RigConfig) -> Limits:
    """Return the limits of a rig's arm."""
    built: Rig = build_plugin("rig", rig.plugin, {**rig.options, "arm_process": False})
    return built.arm.spec.limits


def _open(session: Session, output: Path, *, resume: bool) -> None:
    """Make the folder, or check that it holds the same session."""
    header = output / "session.json"
    try:
        if not header.exists():
            output.mkdir(parents=True, exist_ok=True)
            header.write_text(json.dumps(session.values(), indent=1) + "\n", encoding="utf-8")
            return
        found = json.loads(header.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{output}: cannot be used ({error}).", "Choose another folder with -o.") from error
    if not resume:
        raise ConfigError(f"{output}: expected a new folder, found a session.", "Add --resume to go on with it.")
    wanted = json.loads(json.dumps(session.values()))
    if found != wanted:
        differs = ", ".join(key for key in wanted if found.get(key) != wanted[key])
        raise ConfigError(f"{output}: holds another session (different: {differs}).", "Choose another folder with -o.")
