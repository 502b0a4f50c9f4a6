"""A run together with what is derived from it once: moments, imagined paths, distance from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.report import trial
from cascade.report.run_folder import RunRecord
from cascade.report.timeline import ImaginedPath, Timeline, build_timeline, imagined_path, nearest_imagined


@dataclass(frozen=True, slots=True, eq=False)
class Story:
    """What the page is made from.

    Attributes:
        run: the run folder's contents.
        timeline: the moments the scrubber visits.
        paths: imagined path by plan index.
        workspace_m: (2, 3) box the end effector must stay in, or None.
        distance_m: (N,) of the measured hand from its plan's path, NaN where unknown.
        trial: what blame left in the run folder, or None.
    """

    run: RunRecord
    timeline: Timeline
    paths: Mapping[int, ImaginedPath]
    workspace_m: NDArray[np.float64] | None
    distance_m: NDArray[np.float64]
    trial: Mapping[str, Any] | None = None

    @property
    def others(self) -> dict[str, NDArray[np.float64]]:
        """What other readers see in the plan on trial: those that are not drawn as the imagined path already."""
        shown = " ".join(path.source for path in self.paths.values())
        seen = trial.paths(self.trial)
        return {name: path for name, path in seen.items() if name == "flow" or name not in shown}


def tell(run: RunRecord) -> Story:
    """Return the story of a run, with what blame said of it if it was asked."""
    from cascade.blame.investigate import stored_blame

    indices = sorted({*run.plans, *(chunk.plan for chunk in run.chunks.values())})
    paths = {index: imagined_path(run, index) for index in indices}
    return Story(
        run, build_timeline(run), paths, workspace_of(run.facts), nearest_imagined(run, paths), stored_blame(run.folder)
    )


def workspace_of(facts: Mapping[str, Any]) -> NDArray[np.float64] | None:
    """Return the (2, 3) workspace box the rig described, wherever it stands in its description, or None."""
    waiting: list[Any] = [facts.get("rig_description")]
    while waiting:
        value = waiting.pop(0)
        if isinstance(value, Mapping):
            if "workspace_m" in value:
                try:
                    box = np.asarray(value["workspace_m"], dtype=np.float64)
                except (ValueError, TypeError):
                    return None
                return box if box.shape == (2, 3) and bool(np.isfinite(box).all() and (box[1] > box[0]).all()) else None
            waiting += list(value.values())
    return None
