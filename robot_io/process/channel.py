"""What lies in the memory that caller and arm process share, and where."""

from __future__ import annotations

import itertools
import json
import struct
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import ArmEvent, ArmMode, ArmState, Fault, Lateness
from robot_io.process.shared import Latest, Ring, SharedMemory, Words

Floats = NDArray[np.float64]

MOST_JOINTS = 16
MOST_TARGETS = 1024
MOST_FAULTS = 4
MIRROR_BYTES = 1 << 18
_RING = (256, 512)
WRITER_S = 0.005  # a writer that lost the processor, or its interpreter to a vendor's thread, is waited for this long
_WORDS = (
    "caller_ns",  # heartbeat of the caller
    "child_ns",  # heartbeat of the arm process
    "stop",  # 1: stop, please; the arm process puts it back
    "refused",  # commands that the caller's side has refused as malformed
    "deadman_ns",  # last sign of life of the deadman
    "deadman_pressed",
    "deadman_changed_ns",
)
SCHEDULINGS = ("", "fifo", "nice", "plain", "lockstep")
MODES = tuple(ArmMode)
_LATENESS = ("p50_ms", "p99_ms", "max_ms", "worst_ms")

STATE = np.dtype(
    [
        ("stamp_ns", "i8"),
        ("mode", "i8"),
        ("joints", "i8"),
        ("taken", "i8"),
        ("cycles", "i8"),
        ("overruns", "i8"),
        ("scheduling", "i8"),
        ("fatal", "i8"),
        ("has_twist", "i8"),
        ("has_wrench", "i8"),
        ("has_setpoint", "i8"),
        ("rate_hz", "f8"),
        ("gripper", "f8"),
        ("lateness", "f8", 4),
        ("q", "f8", MOST_JOINTS),
        ("qd", "f8", MOST_JOINTS),
        ("T_base_ee", "f8", (4, 4)),
        ("twist", "f8", 6),
        ("wrench", "f8", 6),
        ("setpoint", "f8", 7),
        ("limited", "S64"),
        ("faults", "i8"),
        ("fault_ns", "i8", MOST_FAULTS),
        ("fault_code", "S40", MOST_FAULTS),
        ("fault_token", "S16", MOST_FAULTS),
        ("fault_message", "S320", MOST_FAULTS),
    ],
    align=True,
)
"""What the arm process publishes every cycle."""

_COMMAND = struct.Struct("<qqqqqq")  # sequence, sent_ns, observed_ns, ttl_ns, scheduled, count


@dataclass(frozen=True, slots=True, eq=False)
class Command:
    """Targets on their way: one to follow now (`times_ns` is None), or a schedule.

    Attributes:
        sequence: grows with every command; sent_ns: when it was sent; observed_ns: age of what it is based on.
        ttl_ns: how long it holds, after it was sent or after its last target's time.
        values: (H, 7) poses; gripper: (H,); times_ns: (H,) or None.
    """

    sequence: int
    sent_ns: int
    observed_ns: int
    ttl_ns: int
    values: Floats
    gripper: Floats
    times_ns: NDArray[np.int64] | None = None

    def pack(self) -> bytes:
        """Return it as bytes."""
        scheduled, count = self.times_ns is not None, len(self.values)
        head = _COMMAND.pack(self.sequence, self.sent_ns, self.observed_ns, self.ttl_ns, scheduled, count)
        times = np.zeros(0, dtype=np.int64) if self.times_ns is None else self.times_ns
        return head + self.values.tobytes() + self.gripper.tobytes() + times.tobytes()

    @classmethod
    def unpack(cls, data: bytes) -> Command:
        """Read what `pack` wrote."""
        sequence, sent_ns, observed_ns, ttl_ns, scheduled, count = _COMMAND.unpack_from(data, 0)
        numbers = np.frombuffer(data, np.float64, 8 * count, _COMMAND.size)
        times = np.frombuffer(data, np.int64, count, _COMMAND.size + 64 * count) if scheduled else None
        values, gripper = numbers[: 7 * count].reshape(count, 7), numbers[7 * count :]
        return cls(sequence, sent_ns, observed_ns, ttl_ns, values, gripper, times)


class Channel:
    """The memory between caller and arm process, laid out.

    Attributes:
        words: heartbeats, the stop byte, the deadman.
        state: newest STATE, from the arm process; command: newest Command, from the caller.
        mirror: what a simulated world looks like, from the arm process.
    """

    def __init__(self, fd: int | None = None) -> None:
        sizes = [
            8 * len(_WORDS),
            Latest.size(STATE.itemsize),
            Latest.size(_COMMAND.size + 72 * MOST_TARGETS),
            Ring.size(*_RING),
            Latest.size(MIRROR_BYTES),
        ]
        self.memory = SharedMemory(sum(sizes), fd)
        starts = np.cumsum([0, *sizes])
        views = [self.memory.view[a:b] for a, b in itertools.pairwise(starts.tolist())]
        self.words = Words(views[0], _WORDS)
        self.state, self.command, self.mirror = Latest(views[1]), Latest(views[2]), Latest(views[4])
        self._log = Ring(views[3], *_RING)

    def log(self, stamp_ns: int, kind: str, code: str, message: str = "") -> None:
        """Add a line to the log; only the arm process does."""
        self._log.append(json.dumps([stamp_ns, kind, code, message[:360]]).encode()[:500])

    def take_log(self) -> list[ArmEvent]:
        """Return the lines since the last call; only the caller does."""
        messages, missed = self._log.take()
        events = []
        for message in messages:
            try:
                stamp_ns, kind, code, text = json.loads(message)
            except ValueError:  # cut in the middle of a character sequence
                missed += 1
                continue
            events.append(ArmEvent(stamp_s=stamp_ns * 1e-9, kind=kind, code=code, message=text))
        if missed:
            stamp_s = events[0].stamp_s if events else time.monotonic()
            events.insert(0, ArmEvent(stamp_s=stamp_s, kind="warning", code="log_missed", message=f"{missed} lines"))
        return events

    def newest(self) -> NDArray[np.void] | None:
        """Return the newest STATE record, or None before the first; the caller's side, which may wait a little."""
        _, data = self.state.read(WRITER_S)
        return np.frombuffer(data, STATE)[0] if data else None

    def close(self) -> None:
        """Unmap."""
        self.memory.close()


def faults_of(record: NDArray[np.void]) -> tuple[Fault, ...]:
    """Return the latched faults of a STATE record."""
    return tuple(
        Fault(
            code=record["fault_code"][i].decode(),
            message=record["fault_message"][i].decode(errors="ignore"),
            token=record["fault_token"][i].decode(),
            stamp_s=float(record["fault_ns"][i]) * 1e-9,
        )
        for i in range(int(record["faults"]))
    )


def state_of(record: NDArray[np.void], faults: tuple[Fault, ...]) -> ArmState:
    """Return a STATE record as the contracts' ArmState."""
    joints = int(record["joints"])
    return ArmState(
        q=record["q"][:joints].copy(),
        qd=record["qd"][:joints].copy(),
        T_base_ee=record["T_base_ee"].copy(),
        gripper_opening=float(record["gripper"]),
        stamp_s=float(record["stamp_ns"]) * 1e-9,
        mode=MODES[int(record["mode"])],
        faults=faults,
        twist=record["twist"].copy() if record["has_twist"] else None,
        wrench=record["wrench"].copy() if record["has_wrench"] else None,
        setpoint=record["setpoint"].copy() if record["has_setpoint"] else None,
    )


def lateness_of(record: NDArray[np.void]) -> Lateness:
    """Return how punctual the cycles of a STATE record were."""
    return Lateness(
        rate_hz=float(record["rate_hz"]),
        scheduling=SCHEDULINGS[int(record["scheduling"])],
        cycles=int(record["cycles"]),
        overruns=int(record["overruns"]),
        **{name: float(value) for name, value in zip(_LATENESS, record["lateness"], strict=True)},
    )
