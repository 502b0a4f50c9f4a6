"""How late the camera's stamps are: the motion of the arm against the motion in the picture.

The arm, or a person at the arm, moves to and fro without a beat. Its speed and the change between pictures rise and
fall together, only that one comes later; the shift that makes them agree best is the latency.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import DataError

Floats = NDArray[np.float64]
GRID_S = 0.004
SMOOTH_S = 0.04
LEAST_PICTURES = 40
LEAST_MOTION_M_S = 0.005
EARLY_S = 0.1  # the arm's own readings may be late too; more than this is a mistake in the data


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Latency:
    """How much later the picture moves than the arm.

    Attributes:
        latency_s: to take off the stamps; negative when the arm's readings are later than the pictures.
        correlation: agreement at that shift, up to 1.
        runner_up: agreement at the best shift well apart from it; near `correlation`, the motion had a beat.
    """

    latency_s: float
    correlation: float
    runner_up: float


class MotionWatch:
    """Collects pictures and arm positions while the arm moves."""

    def __init__(self) -> None:
        self._last: tuple[float, NDArray[np.float32]] | None = None
        self.image_s: list[float] = []
        self.image_motion: list[float] = []
        self.arm_s: list[float] = []
        self.arm_m: list[Floats] = []

    def see(self, rgb: NDArray[np.uint8], stamp_s: float) -> None:
        """Take one picture; the same one twice counts once."""
        import cv2

        if self._last is not None and stamp_s <= self._last[0]:
            return
        small = cv2.resize(cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY), (160, 120))
        grey = cv2.GaussianBlur(small.astype(np.float32), (0, 0), 1.5)
        if self._last is not None:
            before_s, before = self._last
            change = np.abs(grey - before)
            # What moves is a small part of the picture: noise of the rest would drown it.
            self.image_motion.append(float(np.mean(np.maximum(change - 3.0, 0))) / (stamp_s - before_s))
            self.image_s.append((stamp_s + before_s) / 2)
        self._last = (stamp_s, grey)

    def feel(self, position_m: Floats, stamp_s: float) -> None:
        """Take one reading of the hand's position (3,)."""
        if not self.arm_s or stamp_s > self.arm_s[-1]:
            self.arm_s.append(stamp_s)
            self.arm_m.append(np.asarray(position_m, dtype=np.float64))

    def latency(self, *, longest_s: float, least_correlation: float) -> Latency:
        """Return the latency from what was collected; errors as `find_latency`."""
        if len(self.arm_s) < 2:
            raise DataError("latency: expected readings of the arm, found none.", "Check that the arm is connected.")
        times, places = np.array(self.arm_s), np.array(self.arm_m)
        speed = np.linalg.norm(np.diff(places, axis=0), axis=1) / np.diff(times)
        return find_latency(
            (times[1:] + times[:-1]) / 2,
            speed,
            self.image_s,
            self.image_motion,
            longest_s=longest_s,
            least_correlation=least_correlation,
        )


def find_latency(
    arm_s: Sequence[float] | Floats,
    arm_speed: Sequence[float] | Floats,
    image_s: Sequence[float] | Floats,
    image_motion: Sequence[float] | Floats,
    *,
    longest_s: float = 0.6,
    least_correlation: float = 0.6,
) -> Latency:
    """Return by how much the picture moves later than the arm.

    Args:
        arm_s: times of the arm's speeds, rising [s].
        arm_speed: speed of the hand at those times [m/s].
        image_s: times between pictures, rising, on the same clock [s].
        image_motion: change of the picture at those times, in any unit.
        longest_s: longest latency looked for [s].
        least_correlation: agreement below which nothing is concluded.

    Raises:
        DataError: too few pictures, no motion, a steady beat, or no agreement.
    """
    times, speed = np.asarray(arm_s, dtype=np.float64), np.asarray(arm_speed, dtype=np.float64)
    seen, motion = np.asarray(image_s, dtype=np.float64), np.asarray(image_motion, dtype=np.float64)
    if len(seen) < LEAST_PICTURES or len(times) < LEAST_PICTURES:
        raise DataError(f"latency: expected {LEAST_PICTURES} pictures or more, found {len(seen)}.", "Watch for longer.")
    if np.percentile(speed, 90) < LEAST_MOTION_M_S:
        raise DataError("latency: expected the arm to move, it stood still.", "Move it to and fro, not to a beat.")
    low, high = max(seen[0], times[0] + longest_s), min(seen[-1], times[-1] - EARLY_S)
    grid = np.arange(low, high, GRID_S)
    if len(grid) * GRID_S < 2 * longest_s:
        raise DataError("latency: expected arm and pictures over the same time.", "Watch for longer.")
    picture = _standard(_smooth(np.interp(grid, seen, motion)))
    shifts = np.arange(-EARLY_S, longest_s + GRID_S, GRID_S)
    agreement = np.array(
        [np.mean(picture * _standard(_smooth(np.interp(grid - shift, times, speed)))) for shift in shifts]
    )
    best = int(np.argmax(agreement))
    found = Latency(
        latency_s=float(shifts[best] + GRID_S * _peak(agreement, best)),
        correlation=float(agreement[best]),
        runner_up=_runner_up(agreement, best),
    )
    if found.correlation < least_correlation:
        raise DataError(
            f"latency: expected the picture to move with the arm (agreement {least_correlation:.2f} or more), found "
            f"{found.correlation:.2f}.",
            "Let the hand fill more of the picture, keep everything else still, and move it by 10 cm or more.",
        )
    if found.runner_up > 0.95 * found.correlation:
        raise DataError(
            "latency: the motion had a steady beat, so that several delays explain it.", "Move it unevenly."
        )
    return found


def _smooth(values: Floats) -> Floats:
    width = max(3, round(SMOOTH_S / GRID_S))
    smooth: Floats = np.convolve(values, np.hanning(width + 2)[1:-1] / np.hanning(width + 2).sum(), mode="same")
    return smooth


def _standard(values: Floats) -> Floats:
    centred: Floats = values - values.mean()
    return centred / max(float(centred.std()), 1e-12)


def _peak(values: Floats, at: int) -> float:
    """Return where, between -0.5 and 0.5 steps from `at`, a parabola through three values has its top."""
    if not 0 < at < len(values) - 1:
        return 0.0
    left, middle, right = values[at - 1 : at + 2]
    bend = left - 2 * middle + right
    return float(np.clip(0.5 * (left - right) / bend, -0.5, 0.5)) if bend < 0 else 0.0


def _runner_up(values: Floats, best: int) -> float:
    """Return the highest other peak, 0 when there is none."""
    inner = values[1:-1]
    peaks = np.nonzero((inner > values[:-2]) & (inner >= values[2:]))[0] + 1
    others = [float(values[peak]) for peak in peaks if abs(peak - best) * GRID_S > 2 * SMOOTH_S]
    return max([*others, 0.0])
