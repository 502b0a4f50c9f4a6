"""Points followed through a plan, for the overlay: those of the extractor where it left them, else the report's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import VideoPlan
from cascade.report.run_folder import RunRecord

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
MOST = 60
RETURN_PX = 0.7
CHANGED = 24  # grey levels by which a pixel that something passes over differs from frame 0
WORKING_PX = 256


@dataclass(frozen=True, slots=True, eq=False)
class Tracks:
    """(T, N, 2) plan pixels (u, v), (T, N) whether the point was still followed, and by whom, in words."""

    uv: Floats
    kept: Bools
    source: str

    def as_json(self) -> dict[str, Any]:
        """Return what the page's script needs."""
        return {
            "uv": np.round(self.uv, 1).tolist(),
            "kept": self.kept.astype(int).tolist(),
            "source": self.source,
        }


def tracks_of(run: RunRecord, index: int) -> Tracks | None:
    """Return the tracks of plan `index`, None where nothing can be followed."""
    plan = run.plans[index]
    for number in run.chunks_of(index):
        provenance = run.chunks[number].provenance
        found = _stored(provenance.get("tracks"), len(plan), str(provenance.get("extractor") or "the extractor"))
        if found is not None:
            return found
    return follow(plan)


def _stored(value: Any, count: int, who: str) -> Tracks | None:
    if not isinstance(value, Mapping):
        return None
    try:
        uv, kept = np.asarray(value["uv"], dtype=np.float64), np.asarray(value["kept"], dtype=np.bool_)
    except (KeyError, ValueError, TypeError):
        return None
    if uv.ndim != 3 or uv.shape[2] != 2 or kept.shape != uv.shape[:2] or len(uv) != count or not uv.shape[1]:
        return None
    return Tracks(np.nan_to_num(uv), kept, f"followed by the extractor {who}")


def follow(plan: VideoPlan) -> Tracks | None:
    """Follow corners of what moves through a plan by sparse optical flow, forward and back."""
    import cv2

    frames = plan.frames
    scale = max(1, round(WORKING_PX / frames.shape[2]))
    size = (frames.shape[2] * scale, frames.shape[1] * scale)
    grey = [cv2.resize(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), size) for frame in frames]
    changed = np.zeros(grey[0].shape, dtype=np.uint8)
    for each in grey[1:]:
        changed |= (cv2.absdiff(each, grey[0]) > CHANGED).astype(np.uint8)
    mask = cv2.dilate(changed, np.ones((2 * scale + 1, 2 * scale + 1), np.uint8)) * 255
    corners: Any = cv2.goodFeaturesToTrack(grey[0], MOST, 0.01, 3.0 * scale, mask=mask)
    if corners is None or len(corners) < 4:
        return None
    uv = np.zeros((len(frames), len(corners), 2))
    kept = np.ones((len(frames), len(corners)), dtype=np.bool_)
    uv[0] = corners[:, 0]
    for t in range(1, len(frames)):
        here = uv[t - 1].astype(np.float32)[:, None]
        there, ok, _ = cv2.calcOpticalFlowPyrLK(grey[t - 1], grey[t], here, here.copy())
        back, ok_back, _ = cv2.calcOpticalFlowPyrLK(grey[t], grey[t - 1], there, there.copy())
        gap = np.linalg.norm((back - here)[:, 0], axis=1)
        good = (ok.ravel() > 0) & (ok_back.ravel() > 0) & (gap < RETURN_PX * scale) & kept[t - 1]
        uv[t] = np.where(good[:, None], there[:, 0], uv[t - 1])
        kept[t] = good
    return Tracks((uv + 0.5) / scale, kept, "followed for this report by sparse flow, forward and back")
