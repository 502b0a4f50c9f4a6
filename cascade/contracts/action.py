"""Actions and what their numbers mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import checks
from cascade.contracts.errors import DataError
from cascade.contracts.frozen import assign as _set

Floats = NDArray[np.float64]


class SpaceKind(StrEnum):
    """What an action's numbers mean."""

    EE_POSE = "ee_pose"  # (H, 7): xyz [m], quaternion wxyz, absolute in the base frame
    JOINT_POSITION = "joint_position"  # (H, J) [rad], absolute


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionSpace:
    """Meaning of actions; travels in every checkpoint, dataset and chunk and is compared before anything moves.

    Gripper values are always an opening, 0 closed .. 1 open.
    """

    kind: SpaceKind = SpaceKind.EE_POSE
    frame: str = "base"
    rate_hz: float | None = None

    def mismatch(self, other: ActionSpace) -> str | None:
        """Return what differs from `other` in words, or None when actions may pass from one to the other."""
        for name in ("kind", "frame"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                return f"{name} is {mine} here and {theirs} there"
        if None not in (self.rate_hz, other.rate_hz) and self.rate_hz != other.rate_hz:
            return f"rate_hz is {self.rate_hz} here and {other.rate_hz} there"
        return None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ActionChunk:
    """Absolute targets to visit in order.

    Attributes:
        values: (H, 7) xyz [m] + quaternion wxyz in the base frame, or (H, J) [rad]; H may be 0 when done.
        gripper: (H,) commanded opening 0..1.
        times_s: (H,) nominal time of each target from the chunk's start, not decreasing.
        hold_s: (H,) least time to stay at a target once it is active (a dwell while the gripper closes).
        tolerance_m: (H,) distance at which a target counts as reached.
        confidence: (H,) 0..1 or None.
        final: whether the plan is exhausted when this chunk has been executed.
        provenance: extractor, plan id, reasons; JSON values only.
    """

    values: Floats
    gripper: Floats
    times_s: Floats
    hold_s: Floats | None = None
    tolerance_m: Floats | None = None
    confidence: Floats | None = None
    space: ActionSpace = field(default_factory=ActionSpace)
    final: bool = True
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        width = 7 if self.space.kind is SpaceKind.EE_POSE else None
        values = checks.array("action values", self.values, (None, width), np.float64)
        n = (len(values),)
        _set(self, values=values)
        if self.space.kind is SpaceKind.EE_POSE:
            checks.quaternions("action values[:, 3:]", values[:, 3:])
        hold = np.zeros(n) if self.hold_s is None else self.hold_s
        tolerance = np.full(n, 0.02) if self.tolerance_m is None else self.tolerance_m
        for name, value in (
            ("gripper", self.gripper),
            ("times_s", self.times_s),
            ("hold_s", hold),
            ("tolerance_m", tolerance),
        ):
            _set(self, **{name: checks.array(name, value, n, np.float64)})
        checks.unit_interval("gripper", self.gripper)
        if n[0] and (self.times_s[0] < 0 or np.any(np.diff(self.times_s) < 0)):
            raise DataError("times_s: expected times from 0 on that do not decrease.")
        if self.confidence is not None:
            _set(self, confidence=checks.array("confidence", self.confidence, n, np.float64))
            checks.unit_interval("confidence", self.confidence)

    def __len__(self) -> int:
        """Number of targets H."""
        return len(self.values)
