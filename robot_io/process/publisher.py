"""Writing a cycle's outcome into shared memory."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import ArmMode, Fault
from cascade.contracts.driver import Reading
from robot_io.process.channel import MODES, MOST_FAULTS, SCHEDULINGS, STATE, Channel
from robot_io.process.realtime import LatenessRecord

Floats = NDArray[np.float64]


class Publisher:
    """One reusable STATE record.

    Attributes:
        lateness: counted by whoever paces the cycles.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._record = np.zeros((), dtype=STATE)
        self._faults: tuple[Fault, ...] = ()
        self.lateness = LatenessRecord()

    def pacing(self, scheduling: str, rate_hz: float) -> None:
        """Say how cycles are paced."""
        self._record["scheduling"], self._record["rate_hz"] = SCHEDULINGS.index(scheduling), rate_hz

    def publish(
        self,
        *,
        now_ns: int,
        reading: Reading | None,
        T: Floats,
        twist: Floats | None,
        setpoint: Floats | None,
        mode: ArmMode,
        taken: int,
        faults: tuple[Fault, ...],
        limited: tuple[str, ...],
        fatal: bool,
    ) -> None:
        """Write everything."""
        record = self._record
        record["stamp_ns"], record["mode"], record["taken"], record["fatal"] = now_ns, MODES.index(mode), taken, fatal
        record["T_base_ee"] = T
        if reading is not None:
            joints = len(reading.q)
            record["joints"] = joints
            record["q"][:joints], record["qd"][:joints] = reading.q, reading.qd
            record["gripper"] = 1.0 if reading.gripper_opening is None else min(max(reading.gripper_opening, 0.0), 1.0)
        self._optional("twist", twist)
        self._optional("wrench", None if reading is None else reading.wrench)
        self._optional("setpoint", setpoint)
        record["limited"] = ",".join(limited).encode()[:64]
        record["cycles"], record["overruns"] = self.lateness.cycles, self.lateness.overruns
        record["lateness"] = self.lateness.window
        if faults is not self._faults:
            self._write_faults(faults)
        self._channel.state.write(record.tobytes())

    def _optional(self, name: str, value: Floats | None) -> None:
        self._record[f"has_{name}"] = value is not None
        if value is not None:
            self._record[name] = value

    def _write_faults(self, faults: tuple[Fault, ...]) -> None:
        self._faults, record = faults, self._record
        record["faults"] = min(len(faults), MOST_FAULTS)
        for i, fault in enumerate(faults[:MOST_FAULTS]):
            record["fault_ns"][i] = round(fault.stamp_s * 1e9)
            record["fault_code"][i] = fault.code.encode()[:40]
            record["fault_token"][i] = fault.token.encode()[:16]
            record["fault_message"][i] = fault.message.encode()[:320]
