"""Reading a plan where it moves: still pixels are put back to frame 0, every view is read, the readings combined.

Masked inverse dynamics after Vidar (Feng et al., arXiv 2507.12898), which learns its mask. This one needs no training:
a generator's flicker in what stands still never reaches the network, which sees the background of the real picture.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cascade.contracts.errors import IncompatibleError, PluginError
from cascade.contracts.interfaces import ActionExtractor, Needs, PlanReader
from cascade.contracts.plugin import PluginConfig, PluginSpec
from cascade.contracts.records import ActionChunk, ActionSpace, EeReadout, Observation, VideoPlan
from cascade.plugins import build_plugin
from cascade.tiles import combined, views


class MaskedConfig(PluginConfig):
    """Options of the masked reading."""

    extractor: str = Field("idm", description="extractor plug-in that reads views and follows what was read")
    options: dict[str, Any] = Field(default_factory=dict, description="options of that extractor")
    fuse: Literal["variance", "pixels"] = Field(
        "variance", description="variance: the planner's own reading counts too; pixels: only where no view can be read"
    )
    still_levels: float = Field(12.0, ge=0, description="change below which a pixel is still [grey levels of 255]")
    grow_px: int = Field(3, ge=0, description="by how much the moving part is grown [px]")


def moving(frames: NDArray[np.uint8], *, still_levels: float, grow_px: int) -> NDArray[np.bool_]:
    """Return (H, W) where something changes in a clip (T, H, W, 3), grown by a few pixels."""
    import cv2

    changed = np.zeros(frames.shape[1:3], dtype=np.uint8)
    for frame in frames[1:]:
        changed |= (cv2.absdiff(frame, frames[0]).max(axis=-1) > still_levels).astype(np.uint8)
    if grow_px:
        changed = np.asarray(cv2.dilate(changed, np.ones((2 * grow_px + 1, 2 * grow_px + 1), np.uint8)), dtype=np.uint8)
    return changed > 0


def masked(plan: VideoPlan, *, still_levels: float, grow_px: int) -> tuple[VideoPlan, float]:
    """Return a view with its still pixels as in frame 0, and the share of pixels that move."""
    mask = moving(plan.frames, still_levels=still_levels, grow_px=grow_px)
    frames = np.where(mask[None, :, :, None], plan.frames, plan.frames[:1])
    view = VideoPlan(
        instruction=plan.instruction,
        camera=plan.camera,
        transform=plan.transform,
        frames=frames,
        frame_dt_s=plan.frame_dt_s,
        seed=plan.seed,
        provenance=plan.provenance,
        plan_id=plan.plan_id,
    )
    return view, float(mask.mean())


class MaskedExtractor:
    """Reads every view of a plan that the network knows, masked, and follows the combined reading."""

    def __init__(self, reader: PlanReader, follower: ActionExtractor, config: MaskedConfig) -> None:
        self._reader, self._follower, self._config = reader, follower, config
        self._last: tuple[str, EeReadout, dict[str, Any]] | None = None

    @property
    def needs(self) -> Needs:
        """Nothing of the rig: views that the network does not know are left out."""
        return Needs()

    @property
    def produces(self) -> ActionSpace:
        """As the extractor that follows."""
        return self._follower.produces

    def read(self, plan: VideoPlan, observation: Observation) -> EeReadout:
        """Return one reading per frame, of all views together.

        Raises:
            IncompatibleError: the network knows none of the views, and the plan brought no reading of its own.
        """
        return self._read(plan, observation)[0]

    def extract(self, plan: VideoPlan, observation: Observation) -> ActionChunk:
        """Return the next targets.

        Raises:
            IncompatibleError: as `read`.
        """
        readout, facts = self._read(plan, observation)
        chunk = self._follower.extract(plan.with_readout(readout), observation)
        return replace(chunk, provenance={**chunk.provenance, **facts, "extractor": "masked-idm"})

    def _read(self, plan: VideoPlan, observation: Observation) -> tuple[EeReadout, dict[str, Any]]:
        if self._last is not None and self._last[0] == plan.plan_id:
            return self._last[1], self._last[2]
        readings, shares = [], {}
        unknown: IncompatibleError | None = None
        for view in views(plan):
            shown, share = masked(view, still_levels=self._config.still_levels, grow_px=self._config.grow_px)
            try:
                readings.append(self._reader.read(shown, observation))
                shares[view.camera] = round(share, 4)
            except IncompatibleError as error:
                unknown = error
        if plan.readout is not None and (self._config.fuse == "variance" or not readings):
            readings.append(plan.readout)
        if not readings:
            raise unknown or IncompatibleError("plan: expected a view that can be read, found none.")
        facts = {"views_read": list(shares), "moving_share": shares}
        self._last = (plan.plan_id, combined(readings), facts)
        return self._last[1], facts


def _build(config: MaskedConfig) -> ActionExtractor:
    reader = build_plugin("extractor", config.extractor, {**config.options, "fuse": "pixels"})
    if not isinstance(reader, PlanReader):
        raise PluginError(
            f"extractor 'masked-idm': expected an extractor that reads plans, found {config.extractor!r}."
        )
    follower: ActionExtractor = build_plugin("extractor", config.extractor, {**config.options, "fuse": "latents"})
    return MaskedExtractor(reader, follower, config)


MASKED: PluginSpec[ActionExtractor] = PluginSpec(
    "inverse dynamics of every view, still pixels as in frame 0", MaskedConfig, _build
)
