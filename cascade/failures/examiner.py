"""Looking into failed episodes of an evaluation, where they ran."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cascade.config import RecipeConfig, RigConfig, StageConfig
from cascade.contracts.errors import CascadeError
from cascade.contracts.interfaces import Rig
from cascade.failures.diagnosis import diagnose
from cascade.failures.pictures import write_picture
from cascade.failures.verdict import Failure
from cascade.failures.witness import Account, world_of
from cascade.pipeline import Stages, build_stages
from cascade.runtime import run_episode

PICTURES = "pictures"
ORACLE = "oracle"


class Examiner:
    """Says why episodes of one recipe on one rig failed.

    Args:
        rig: simulated, connected.
        config: of the rig, for the expert's second one.
        recipe: of the episodes.

    Raises:
        IncompatibleError: the rig is not simulated.
    """

    def __init__(self, rig: Rig, config: RigConfig, recipe: RecipeConfig) -> None:
        world_of(rig)
        self._rig, self._config, self._recipe = rig, config, recipe
        self._perfect: Stages | None = None

    def examine(self, account: Account, row: Mapping[str, Any], output: Path) -> dict[str, Any]:
        """Return the diagnosis of a failed episode as JSON values; its picture goes below `output`.

        What goes wrong in it is told as the reason: an evaluation of hours must not end for want of an explanation.
        """
        try:
            return self._examine(account, row, output)
        except Exception as error:
            reason = f"It could not be looked into: {type(error).__name__}: {error}"
            return {"class": Failure.OTHER.value, "reason": reason, "attempt": None, "picture": None}

    def _examine(self, account: Account, row: Mapping[str, Any], output: Path) -> dict[str, Any]:
        camera = account.plans[0].camera if 0 in account.plans else next(iter(self._rig.cameras))
        perfect = self._solves_with_perfect_plan(row["task"], row["seed"], camera)
        planner = self._recipe.planner.name
        found = diagnose(self._rig, account, row, planner, perfect_plan=perfect)
        name = f"{PICTURES}/{row['task']}-{camera}-{row['seed']}.webp"
        drawn = write_picture(output / name, account, found.need, self._rig.cameras[camera].read())
        return found.as_json() | {"picture": name if drawn else None}

    def _solves_with_perfect_plan(self, task: str, seed: int, camera: str) -> bool | None:
        """Whether the same recipe solves a layout with the expert's own video; None when that cannot be tried."""
        if self._recipe.planner.name == ORACLE:
            return None
        try:
            if self._perfect is None:
                self._perfect = build_stages(self._with_oracle(camera))
            result = run_episode(self._rig, self._perfect, instruction=None, task=task, seed=seed)
        except CascadeError:
            return None
        return None if result.outcome == "error" else bool(result.success)

    def _with_oracle(self, camera: str) -> RecipeConfig:
        beside = {key: value for key, value in self._config.options.items() if key not in ("cameras", "name", "clock")}
        options = {"camera": camera, "readout": True, "rig": self._config.name, "rig_options": beside}
        return self._recipe.model_copy(update={"planner": StageConfig(name=ORACLE, options=options)})
