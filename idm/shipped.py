"""Which of the weights that travel with the package fits what a plan shows."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cascade.contracts import EeReadout, IncompatibleError, Observation, VideoPlan, WeightsError
from idm.reading import known_views, mismatch
from idm.weights import CONFIG_FILE

if TYPE_CHECKING:
    from idm.reading import PlanFrameReader


class ShippedReader:
    """Reads each plan with the first set of weights that knows its camera at its field of view.

    Args:
        folders: sets of weights, the likeliest first; only their configurations are read at once.
        load: makes the reader of one folder.

    Raises:
        WeightsError: a configuration is missing or broken.
    """

    def __init__(self, folders: Sequence[Path], load: Callable[[Path], PlanFrameReader]) -> None:
        self._load = load
        self._configs = {folder: _config(folder) for folder in folders}
        self._readers: dict[Path, PlanFrameReader] = {}
        self.weights: str | None = None

    @property
    def cameras(self) -> tuple[str, ...]:
        """All views that some set knows."""
        names = (str(view["camera"]) for config in self._configs.values() for view in known_views(config))
        return tuple(dict.fromkeys(names))

    def read(self, plan: VideoPlan, observation: Observation) -> EeReadout:
        """Return one reading per frame; see `PlanFrameReader.read`.

        Raises:
            IncompatibleError: no set fits; the message says what each of them lacks.
            WeightsError: the weights that fit are broken.
        """
        reader = self.goals(plan, observation)
        self.weights = reader.weights
        return reader.read(plan, observation)

    def goals(self, plan: VideoPlan, observation: Observation) -> PlanFrameReader:
        """Return the reader of the first weights that fit a plan; raises as `read`."""
        problems = []
        for folder, config in self._configs.items():
            problem = mismatch(config, plan, observation)
            if problem is None:
                if folder not in self._readers:
                    self._readers[folder] = self._load(folder)
                return self._readers[folder]
            problems.append(f"{folder.name}: {problem.problem}")
        raise IncompatibleError(
            "plan: none of the shipped inverse-dynamics weights fits. " + " ".join(problems),
            "Plan through a camera that they know, or name weights of your own in the option 'weights'.",
        )


def _config(folder: Path) -> Mapping[str, Any]:
    try:
        config: Mapping[str, Any] = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{folder}: expected a readable {CONFIG_FILE}, found {error}.", "Reinstall it.") from error
    return config
