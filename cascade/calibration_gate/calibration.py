"""The gate's calibration: limits and `p_exec` as fitted on trials, in one file that a recipe names.

It holds for the planner, extractor and camera it was fitted on, and refuses others: numbers of one video model say
nothing about another's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from cascade.contracts.errors import ConfigError, DataError, IncompatibleError, WeightsError, did_you_mean
from cascade.events import weights_of
from cascade.executability import Logistic
from cascade.goal import GoalModel
from cascade.metrics.cues import Cues
from cascade.value.model import FILE as VALUE_FILE
from cascade.value.model import ValueModel

FORMAT = "cascade-gate-2"
JSON_FILE, GOAL_FILE = "gate.json", "goal.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """Limit of one check: what is beyond it was never seen in a plan that worked.

    Attributes:
        check: its name in gate reports.
        cue: what is measured.
        limit: in `unit`.
        unit: of the cue.
        at_least: whether values below the limit are refused, else those above.
        message: what a refusal says.
    """

    check: str
    cue: str
    limit: float
    unit: str
    at_least: bool
    message: str

    def broken(self, value: float) -> bool:
        """Whether a value is beyond the limit."""
        return value < self.limit if self.at_least else value > self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class GateCalibration:
    """What was fitted.

    Attributes:
        weights: stage -> digest of planner and extractor it holds for.
        camera: the view it holds for.
        bounds: limits of the plan gate's checks.
        min_p_exec: least probability that lets a plan run.
        first_frame_db: least likeness of frame 0 and the camera image.
        tube_m: farthest the hand may leave the commanded path.
        models: `p_exec`, richest first.
        goals: the goal check.
        value: the learned value that is one of the cues, or None where none knows this camera.
        fitted_on: suite, seeds, numbers of trials, in words and numbers for people.
    """

    weights: Mapping[str, str]
    camera: str
    bounds: tuple[Bound, ...]
    min_p_exec: float
    first_frame_db: float
    tube_m: float
    models: tuple[Logistic, ...]
    goals: GoalModel
    value: ValueModel | None = None
    fitted_on: Mapping[str, Any] = field(default_factory=dict)

    def probability(self, cues: Cues) -> tuple[float, str]:
        """Return p_exec and the name of the model that gave it.

        Raises:
            DataError: not even the poorest model has its cues.
        """
        if not cues.moves:
            return 0.0, "no motion"
        for model in self.models:
            if model.answers(cues):
                return model.probability(cues), model.name
        raise DataError(
            f"p_exec: needs {', '.join(self.models[-1].cues)}, found {', '.join(cues.values) or 'nothing'}.",
            "; ".join(f"{name}: {why}" for name, why in cues.missing.items()),
        )

    def check_weights(self, provenance: Mapping[str, Any], *, named: bool = True) -> None:
        """Refuse a plan or chunk of other weights than those this was fitted on.

        Args:
            provenance: of the plan or chunk.
            named: whether one that names no weights is refused too.

        Raises:
            IncompatibleError: names both sides.
        """
        found = weights_of(provenance)
        saved = provenance.get("saved")
        if not found and isinstance(saved, Mapping):
            found = weights_of(saved)
        wrong = {name: digest for name, digest in found.items() if self.weights.get(name) != digest}
        if wrong or (named and not found):
            fitted = ", ".join(f"{name} {digest}" for name, digest in self.weights.items())
            here = ", ".join(f"{name} {digest}" for name, digest in wrong.items())
            maker = provenance.get("planner") or provenance.get("extractor") or "a stage"
            raise IncompatibleError(
                f"gate calibration: expected weights {fitted}, found {here or f'{maker}, which names none'}.",
                "Fit one for these stages with: cascade train gate; or go without: --set gate.calibration=null.",
            )

    def save(self, folder: Path) -> None:
        """Write `gate.json`, and beside it the goal model and the learned value, if there is one.

        Raises:
            ConfigError: the folder cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.goals.save(folder / GOAL_FILE)
            document = self._document(_digest(folder / GOAL_FILE))
            if self.value is not None:
                self.value.save(folder)
                document["value"] = {"file": VALUE_FILE, "sha256": _digest(folder / VALUE_FILE)}
            (folder / JSON_FILE).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{folder}: cannot be written ({error.strerror}).", "Choose another folder.") from error

    def _document(self, goal_digest: str) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "weights": dict(self.weights),
            "camera": self.camera,
            "fitted_on": dict(self.fitted_on),
            "min_p_exec": self.min_p_exec,
            "first_frame_db": self.first_frame_db,
            "tube_m": self.tube_m,
            "bounds": [
                {name: getattr(bound, name) for name in ("check", "cue", "limit", "unit", "at_least", "message")}
                for bound in self.bounds
            ],
            "models": [model.as_json() for model in self.models],
            "goal": {"file": GOAL_FILE, "sha256": goal_digest},
        }

    @classmethod
    def load(cls, folder: Path) -> GateCalibration:
        """Read what `save` wrote.

        Raises:
            WeightsError: a file is missing, of another format, or not the one it was saved with.
        """
        path = folder / JSON_FILE if folder.is_dir() else folder
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise WeightsError(
                f"{path}: expected a gate calibration, found none ({error}).", "Make one with: cascade train gate."
            ) from error
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            found = values.get("format") if isinstance(values, dict) else None
            raise WeightsError(
                f"{path}: expected format {FORMAT}, found {found}.",
                "Fit it anew: cascade train gate. With --resume the trials are not run again.",
            )
        goal = _saved_with(path, values["goal"], "goal model")
        value = _saved_with(path, values["value"], "learned value") if "value" in values else None
        return cls(
            weights=dict(values["weights"]),
            camera=str(values["camera"]),
            bounds=tuple(Bound(**bound) for bound in values["bounds"]),
            min_p_exec=float(values["min_p_exec"]),
            first_frame_db=float(values["first_frame_db"]),
            tube_m=float(values["tube_m"]),
            models=tuple(Logistic.from_json(model) for model in values["models"]),
            goals=GoalModel.load(goal),
            value=None if value is None else ValueModel.load(value.parent),
            fitted_on=dict(values["fitted_on"]),
        )


def _saved_with(path: Path, entry: Mapping[str, Any], what: str) -> Path:
    """Return the file that an entry of `gate.json` names; raises WeightsError if it is not that file any more."""
    file = path.parent / str(entry["file"])
    if not file.is_file() or _digest(file) != entry["sha256"]:
        raise WeightsError(f"{file}: expected the {what} that {path.name} was saved with, found another or none.")
    return file


def shipped() -> dict[str, Path]:
    """Return name -> folder of the calibrations that travel with the package."""
    inside = Path(str(files("cascade"))) / "configs" / "gates"
    root = inside if inside.is_dir() else Path(str(files("cascade"))).parent / "configs" / "gates"
    return {path.name: path for path in sorted(root.glob("*")) if (path / JSON_FILE).is_file()}


@lru_cache(maxsize=4)
def load_calibration(name: str) -> GateCalibration:
    """Return a calibration by the name of a shipped one, or by its folder; read once.

    Raises:
        ConfigError: there is none.
        WeightsError: its files are broken.
    """
    known = shipped()
    if name in known:
        return GateCalibration.load(known[name])
    if not Path(name).exists():
        raise ConfigError(
            f"gate.calibration {name!r}: expected a folder or the name of a shipped one, found neither.",
            did_you_mean(name, known),
        )
    return GateCalibration.load(Path(name))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
