"""Several views in one plan, side by side: how they are tiled, taken apart again, and a planner that makes such plans.

A tiled plan is an ordinary one whose frames are wide: view after view from left to right. `provenance["tiles"]` says
which camera each tile shows and how its image was cropped; the plan's own camera is that of the first tile.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cascade.contracts.errors import DataError, IncompatibleError
from cascade.contracts.interfaces import Needs, Planner
from cascade.contracts.plugin import PluginConfig, PluginSpec
from cascade.contracts.records import CameraImage, EeReadout, ImageTransform, Observation, VideoPlan
from cascade.plugins import build_plugin

KEY = "tiles"


def tiled(plans: Sequence[VideoPlan]) -> VideoPlan:
    """Return one plan of several views of the same future, decoded when first asked for.

    Readings of the hand that come with the views are combined, weighted by their inverse variance.

    Raises:
        DataError: the views have different lengths or heights.
    """
    first = plans[0]
    if len(plans) == 1:
        return first
    if len({(len(plan), plan.transform.size_px[1]) for plan in plans}) > 1:
        sizes = ", ".join(f"{plan.camera}: {len(plan)} frames of {plan.transform.size_px}" for plan in plans)
        raise DataError(f"tiled plan: expected views of one length and height, found {sizes}.", "Plan them alike.")
    tiles = [
        {
            "camera": plan.camera,
            "crop_px": list(plan.transform.crop_px),
            "size_px": list(plan.transform.size_px),
        }
        for plan in plans
    ]
    readouts = [plan.readout for plan in plans if plan.readout is not None]
    width = sum(plan.transform.size_px[0] for plan in plans)

    def decode() -> NDArray[np.uint8]:
        return np.concatenate([plan.frames for plan in plans], axis=2)

    return VideoPlan(
        instruction=first.instruction,
        camera=first.camera,
        transform=ImageTransform(crop_px=first.transform.crop_px, size_px=(width, first.transform.size_px[1])),
        decode=decode,
        length=len(first),
        frame_dt_s=first.frame_dt_s,
        readout=combined(readouts) if readouts else None,
        seed=first.seed,
        provenance={**first.provenance, "ms": _added(plans), KEY: tiles},
    )


def views(plan: VideoPlan) -> list[VideoPlan]:
    """Return the views of a plan as plans of their own, decoded; of a plan that is not tiled, itself."""
    tiles = plan.provenance.get(KEY)
    if not tiles:
        return [plan]
    found, left = [], 0
    for tile in tiles:
        width, height = (int(size) for size in tile["size_px"])
        found.append(
            VideoPlan(
                instruction=plan.instruction,
                camera=str(tile["camera"]),
                transform=ImageTransform(crop_px=tuple(tile["crop_px"]), size_px=(width, height)),
                frames=np.ascontiguousarray(plan.frames[:, :, left : left + width]),
                frame_dt_s=plan.frame_dt_s,
                seed=plan.seed,
                provenance={"planner": plan.provenance.get("planner", "")},
                plan_id=f"{plan.plan_id}/{tile['camera']}",
            )
        )
        left += width
    return found


def first_view(plan: VideoPlan) -> VideoPlan:
    """Return the view through the plan's own camera."""
    return views(plan)[0]


def combined(readouts: Sequence[EeReadout]) -> EeReadout:
    """Return one reading of several, weighted by inverse variance; their errors are taken to be independent."""
    if len(readouts) == 1:
        return readouts[0]
    near = np.stack([1 / one.position_std_m**2 for one in readouts])
    sure = np.stack([1 / one.opening_std**2 for one in readouts])
    position = np.stack([one.position_m for one in readouts])
    opening = np.stack([one.opening for one in readouts])
    return EeReadout(
        position_m=(near[..., None] * position).sum(0) / near.sum(0)[:, None],
        opening=np.clip((sure * opening).sum(0) / sure.sum(0), 0, 1),
        position_std_m=1 / np.sqrt(near.sum(0)),
        opening_std=1 / np.sqrt(sure.sum(0)),
        progress=next((one.progress for one in readouts if one.progress is not None), None),
        source="+".join(dict.fromkeys(one.source for one in readouts)),
    )


def _added(plans: Sequence[VideoPlan]) -> dict[str, float]:
    total: dict[str, float] = {}
    for plan in plans:
        for name, ms in dict(plan.provenance.get("ms") or {}).items():
            total[name] = round(total.get(name, 0.0) + float(ms), 3)
    return total


class TiledConfig(PluginConfig):
    """Options of the planner that tiles views."""

    planner: str = Field("embedded", description="planner plug-in that imagines each view; has an option `camera`")
    options: dict[str, Any] = Field(default_factory=dict, description="options of that planner")
    cameras: tuple[str, ...] = Field(
        ("corner", "corner2", "corner3"),
        min_length=1,
        description="views in order; those that the rig lacks are left out",
    )


class TiledPlanner:
    """Imagines every view that the rig has with the same sentence and seed, and tiles them into one plan.

    Vidar (Feng et al., arXiv 2507.12898) has one model imagine the tiled picture; here each view is imagined by itself,
    since the weights that travel with cascade know one view at a time. So views may disagree.
    """

    def __init__(self, config: TiledConfig) -> None:
        self._config = config
        self._planners: dict[str, Planner] = {}

    @property
    def needs(self) -> Needs:
        """At least one of the cameras."""
        return Needs(cameras=self._config.cameras)

    def plan(
        self,
        observation: Observation,
        instruction: str,
        *,
        seed: int,
        goal: CameraImage | None = None,
        samples: int = 1,
    ) -> list[VideoPlan]:
        """Return `samples` tiled plans.

        Raises:
            IncompatibleError: the observation has none of the cameras.
        """
        seen = [name for name in self._config.cameras if name in observation.images]
        if not seen:
            raise IncompatibleError(
                f"planner 'tiled': expected one of the cameras {', '.join(self._config.cameras)}, found "
                f"{', '.join(observation.images) or 'none'}.",
                "Name the rig's cameras in planner.options.cameras.",
            )
        by_view = [
            self._planner(name).plan(observation, instruction, seed=seed, goal=goal, samples=samples) for name in seen
        ]
        return [tiled(plans) for plans in zip(*by_view, strict=True)]

    def close(self) -> None:
        """Let go of the planners."""
        for planner in self._planners.values():
            close = getattr(planner, "close", None)
            if callable(close):
                close()
        self._planners.clear()

    def _planner(self, camera: str) -> Planner:
        if camera not in self._planners:
            options = {**self._config.options, "camera": camera}
            self._planners[camera] = build_plugin("planner", self._config.planner, options)
        return self._planners[camera]


def _build(config: TiledConfig) -> Planner:
    return TiledPlanner(config)


TILED: PluginSpec[Planner] = PluginSpec("several views in one plan, each by another planner", TiledConfig, _build)
