"""Judges every image before anyone sees it: which are dropped, and which raise an alarm that closes the policy gate."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

import numpy as np
from numpy.typing import NDArray

from robot_io.cameras.config import WatchConfig
from robot_io.cameras.source import SourceFrame, SourceInfo

INTRINSICS_TOLERANCE_PX = 0.5
CLOCK_SET_S = 5.0
SAMPLE_STEP = 4  # every fourth pixel of every fourth row tells black and frozen well enough


class Alarm(IntFlag):
    """What is wrong with the images of a camera; several can be at once."""

    NONE = 0
    BLACK = 1
    FROZEN = 2
    NO_DEPTH = 4
    INTRINSICS = 8
    CLOCK = 16


REMEDY: dict[Alarm, tuple[str, str]] = {
    Alarm.BLACK: ("the image is black", "Take the cap off, switch the light on, or check the exposure."),
    Alarm.FROZEN: (
        "the image is frozen",
        "Unplug the camera and plug it in again; for a still video set `watch.frozen_s` to null.",
    ),
    Alarm.NO_DEPTH: (
        "almost no pixel has depth",
        "Check the distance (0.3 to 3 m), the infrared projector and the lenses.",
    ),
    Alarm.INTRINSICS: (
        "the intrinsics are not those it was opened with",
        "Close it, set resolution and crop as they were, and calibrate again if they are meant to differ.",
    ),
    Alarm.CLOCK: (
        "the clock of its time stamps has changed",
        "Close it and open it again; for a RealSense switch global time on.",
    ),
}
LATCHED = Alarm.INTRINSICS | Alarm.CLOCK
"""These stay until the camera is closed by a person; the others end when the images are good again."""


@dataclass(slots=True)
class Counts:
    """What was dropped since the camera was opened.

    Attributes:
        missed: numbers left out by the device's own counter.
        duplicated: images that came twice; stale: older than one that came before; skewed: depth and colour too far
            apart in time.
    """

    missed: int = 0
    duplicated: int = 0
    stale: int = 0
    skewed: int = 0


@dataclass(frozen=True, slots=True)
class Judgement:
    """Whether an image is passed on, and the alarms that hold now."""

    publish: bool
    alarms: Alarm


class Watch:
    """Judge of one opened camera: call `judge` once per image, in the order they came."""

    def __init__(self, config: WatchConfig, info: SourceInfo) -> None:
        self.counts = Counts()
        self._config, self._info = config, info
        self._last: SourceFrame | None = None
        self._sample: NDArray[np.uint8] | None = None
        self._changed_s = -np.inf
        self._latched = Alarm.NONE

    def judge(self, frame: SourceFrame) -> Judgement:
        """Return whether to pass `frame` on and what is wrong with it."""
        self._latched |= self._changes(frame)
        publish = self._in_order(frame) and self._together(frame)
        alarms = self._latched
        if publish:
            alarms |= self._looks(frame)
        return Judgement(publish, alarms)

    def _in_order(self, frame: SourceFrame) -> bool:
        last = self._last
        if last is not None and frame.clock == last.clock:
            if frame.t_dev_s == last.t_dev_s or (frame.number == last.number and frame.t_dev_s > last.t_dev_s):
                self.counts.duplicated += 1
                return False
            # Far back it is the clock that was set, as when somebody corrects the time of the machine.
            if last.t_dev_s - CLOCK_SET_S < frame.t_dev_s < last.t_dev_s:
                self.counts.stale += 1
                return False
            self.counts.missed += max(0, frame.number - last.number - 1)
        self._last = frame
        return True

    def _together(self, frame: SourceFrame) -> bool:
        if skew_s(frame) <= self._config.skew_s:
            return True
        self.counts.skewed += 1
        return False

    def _changes(self, frame: SourceFrame) -> Alarm:
        alarms = Alarm.NONE
        if frame.clock != self._info.clock:
            alarms |= Alarm.CLOCK
        resized = frame.rgb.shape[:2] != (self._info.height, self._info.width)
        moved = frame.K is not None and not np.allclose(frame.K, self._info.K, rtol=0, atol=INTRINSICS_TOLERANCE_PX)
        return alarms | Alarm.INTRINSICS if resized or moved else alarms

    def _looks(self, frame: SourceFrame) -> Alarm:
        alarms = Alarm.NONE
        sample = frame.rgb[::SAMPLE_STEP, ::SAMPLE_STEP]
        if float(sample.mean()) < self._config.black_level:
            alarms |= Alarm.BLACK
        if self._sample is None or sample.shape != self._sample.shape or not np.array_equal(sample, self._sample):
            self._sample, self._changed_s = sample.copy(), frame.t_host_s
        elif self._config.frozen_s is not None and frame.t_host_s - self._changed_s >= self._config.frozen_s:
            alarms |= Alarm.FROZEN
        if frame.depth_m is None:
            return alarms
        missing = float(np.mean(~(frame.depth_m > 0)))  # NaN is not > 0
        return alarms | Alarm.NO_DEPTH if missing > self._config.invalid_depth else alarms


def skew_s(frame: SourceFrame) -> float:
    """Return the time between the colour and the depth of a frame [s]; 0 without depth."""
    return abs(frame.t_dev_s - frame.depth_t_dev_s) if frame.depth_t_dev_s is not None else 0.0


def describe(alarms: Alarm) -> tuple[str, str]:
    """Return what is wrong and what to do about it, in words."""
    present = [REMEDY[alarm] for alarm in REMEDY if alarm & alarms]
    return "; ".join(problem for problem, _ in present), " ".join(fix for _, fix in present)
