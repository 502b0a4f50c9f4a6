"""Decides when a servo is in trouble, from what it says and from what it measures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from robot_io.arms.feetech_registers import HOT, LOW_VOLTAGE, Sample, Trouble, troubles

_IN_A_ROW = 3  # thermometers and volt meters of these servos read one wild value now and then


class ServoWatch:
    """Remembers troubles until `forget`, so that a report does not come and go.

    Args:
        max_temperature_c, min_voltage_v: beyond these for three readings in a row is a trouble.
    """

    def __init__(self, max_temperature_c: float, min_voltage_v: float) -> None:
        self._max_temperature_c = max_temperature_c
        self._min_voltage_v = min_voltage_v
        self._streaks: dict[tuple[int, str], int] = {}
        self._reported: dict[tuple[int, str], Trouble] = {}

    @property
    def reported(self) -> tuple[tuple[int, Trouble], ...]:
        """Servo id and trouble, oldest first."""
        return tuple((servo, trouble) for (servo, _), trouble in self._reported.items())

    def forget(self) -> None:
        """Start anew."""
        self._streaks.clear()
        self._reported.clear()

    def look(self, samples: Mapping[int, Sample]) -> set[int]:
        """Take a reading of every servo; return the ids of servos with a trouble that is new."""
        fresh = set()
        for servo, sample in samples.items():
            sure = troubles(sample.status)
            for trouble in (*sure, *self._lasting(servo, sample)):
                if (servo, trouble.code) not in self._reported:
                    self._reported[servo, trouble.code] = trouble
                    fresh.add(servo)
        return fresh

    def all_now(self, samples: Mapping[int, Sample]) -> Iterable[tuple[int, Trouble]]:
        """Yield every trouble in one reading, lasting or not."""
        for servo, sample in samples.items():
            for trouble in (*troubles(sample.status), *self._measured(sample)):
                yield servo, trouble

    def _measured(self, sample: Sample) -> list[Trouble]:
        hot = [HOT] if sample.temperature_c > self._max_temperature_c else []
        return hot + ([LOW_VOLTAGE] if sample.voltage_v < self._min_voltage_v else [])

    def _lasting(self, servo: int, sample: Sample) -> list[Trouble]:
        now = {trouble.code: trouble for trouble in self._measured(sample)}
        for code in (HOT.code, LOW_VOLTAGE.code):
            self._streaks[servo, code] = self._streaks.get((servo, code), 0) + 1 if code in now else 0
        return [trouble for code, trouble in now.items() if self._streaks[servo, code] >= _IN_A_ROW]
