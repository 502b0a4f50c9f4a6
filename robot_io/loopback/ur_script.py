"""What the emulated UR controller does with programs: the control script of ur_rtde, and one-line URScript.

The real client uploads its control script; this module does not interpret URScript but behaves as that script does
(ur_rtde 1.6): commands arrive in input register 0, arguments in the registers after it, 'ready' (1) and 'done' (2) go
out through output register 0. Streaming commands are taken in every cycle; all others run once and wait for a clear.
A command that is not emulated ends the program with a message, as a script error would.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from robot_io.loopback.ur_world import (
    STAND,
    MoveJoints,
    MoveLine,
    Servo,
    SpeedJoints,
    SpeedTcp,
    StopTcp,
    World,
)

Floats = NDArray[np.float64]

READY, DONE = 1, 2
STREAMED = {9: "speedj", 10: "speedl", 11: "servoj", 24: "servol"}
_STOPPED, _PLAYING, _PAUSED = 1, 2, 4
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"


class Registers:
    """The general-purpose registers that RTDE and programs share; `writes` counts input packages."""

    def __init__(self) -> None:
        self.ints_in, self.ints_out = [0] * 48, [0] * 48
        self.doubles_in, self.doubles_out = [0.0] * 48, [0.0] * 48
        self.writes = 0


class ControlProgram:
    """The uploaded control script, one cycle at a time."""

    def __init__(self, world: World, registers: Registers, offset: int, starts_at_s: float) -> None:
        self.world, self.registers, self.offset = world, registers, offset
        self.starts_at_s = starts_at_s
        self.paused = False
        self.ended = ""  # why, once it has ended
        self.watchdog_hz = 0.0
        self._begun = self._executing = False
        self._wait: Callable[[], bool] | None = None
        self._seen = -1

    @property
    def runtime_state(self) -> int:
        """`runtime_state` as RTDE reports it."""
        if self.ended or not self._begun:
            return _STOPPED
        return _PAUSED if self.paused else _PLAYING

    def _arguments(self, first: int, count: int) -> Floats:
        start = self.offset + first
        return np.array(self.registers.doubles_in[start : start + count])

    def _signal(self, value: int) -> None:
        self.registers.ints_out[self.offset] = value

    def _answer(self, value: int) -> None:
        self.registers.ints_out[self.offset + 1] = value

    def _answers(self, values: Floats) -> None:
        self.registers.doubles_out[self.offset : self.offset + len(values)] = [float(v) for v in values]

    def end(self, why: str) -> None:
        """End the program: the arm decelerates and stands."""
        self.ended = self.ended or why
        self.world.motion = STAND

    def cycle(self) -> None:
        """One 2 ms cycle of the script's main loop."""
        if self.ended or self.paused:
            return
        if not self._begun:
            if self.world.time_s < self.starts_at_s:
                return
            self._begun = True
            self._signal(READY)
        if self._wait is not None:
            if not self._wait():
                return
            self._wait = None
            self._signal(DONE)
        command = self.registers.ints_in[self.offset]
        if command in STREAMED:
            if self.registers.writes != self._seen:
                self._seen = self.registers.writes
                self._stream(command)
            self._signal(READY)
        elif command == 0:
            self._executing = False
            self._signal(READY)
        elif not self._executing:
            self._executing = True
            self._once(command)

    def _stream(self, command: int) -> None:
        values = self._arguments(0, 6)
        if command == 24:
            q = self.world.inverse(values)
            if q is None:
                self.end("get_inverse_kin: no solution")
                return
            values = q
        if command in (11, 24):
            lookahead, gain = self._arguments(9, 2)
            self.world.motion = Servo(values, max(0.03, float(lookahead)), float(gain))
        elif command == 10:
            self.world.motion = SpeedTcp(values, float(self._arguments(6, 1)[0]))
        else:
            self.world.motion = SpeedJoints(values, float(self._arguments(6, 1)[0]))

    def _once(self, command: int) -> None:
        world, first = self.world, float(self._arguments(0, 1)[0])
        match command:
            case 1 | 4:
                speed, acceleration = (float(v) for v in self._arguments(6, 2))
                world.motion = MoveJoints(self._arguments(0, 6), speed, acceleration)
                self._wait = world.arrived
                return
            case 2 | 3:
                self._move_to_pose(command)
                return
            case 15 | 16 | 33:
                world.motion = StopTcp(first)
                self._wait = lambda: world.still
                return
            case 34:
                world.motion = SpeedJoints(np.zeros(6), first)
                self._wait = lambda: world.still
                return
            case 8:
                world.wrench = np.zeros(6)
            case 17:
                world.payload_kg, world.payload_cog_m = first, self._arguments(1, 3)
            case 29:
                world.set_tcp(self._arguments(0, 6))
            case 31:
                world.set_stop("protective_stop", True)
                self.paused = True
                return
            case 35:
                self.watchdog_hz = first
            case 36:
                self._answer(int(world.inverse(self._arguments(0, 6)) is not None))
            case 37:
                self._answer(int(np.abs(self._arguments(0, 6)).max() < 2 * np.pi))
            case 40:
                self._answers(world.tcp_offset)
            case 43:
                self._answers(world.pose)
            case 46:
                q = world.inverse(self._arguments(0, 6))
                if q is None:
                    self.end("get_inverse_kin: no solution")
                    return
                self._answers(q)
            case 47:
                self._answer(int(world.still))
            case 255:
                self.end("stopped by the client")
                return
            case _:
                self.end(f"command {command} is not emulated")
                return
        self._signal(DONE)

    def _move_to_pose(self, command: int) -> None:
        pose = self._arguments(0, 6)
        speed, acceleration = (float(v) for v in self._arguments(6, 2))
        q = self.world.inverse(pose)
        if q is None:
            self.end("get_inverse_kin: no solution")
            return
        self.world.motion = MoveLine(pose, speed, acceleration) if command == 3 else MoveJoints(q, speed, acceleration)
        self._wait = self.world.arrived


def register_offset(program: str) -> int | None:
    """Return the first register (0 or 24) of an uploaded ur_rtde control script, or None when it is no such script."""
    found = re.search(r"# int register offset\s+(\d+)", program)
    return int(found.group(1)) if found else None


def run_lines(program: str, world: World) -> list[str]:
    """Carry out the lines of a short URScript program that are emulated; return those that are not."""
    unknown = []
    for raw in program.splitlines():
        line = raw.split("#")[0].strip()
        numbers = [float(n) for n in re.findall(_NUMBER, line[line.find("(") + 1 :])] if "(" in line else []
        if not line or line == "end" or line.startswith(("def ", "sec ", "textmsg(")):
            continue
        if line.startswith("set_tcp(") and len(numbers) == 6:
            world.set_tcp(np.array(numbers))
        elif line.startswith("set_payload(") and len(numbers) in (1, 4):
            world.payload_kg, world.payload_cog_m = numbers[0], np.array(numbers[1:] or [0.0] * 3)
        elif line.startswith("stopl(") and numbers:
            world.motion = StopTcp(numbers[0])
        elif line.startswith("stopj(") and numbers:
            world.motion = SpeedJoints(np.zeros(6), numbers[0])
        elif line.startswith("movej(") and len(numbers) >= 6:
            world.motion = MoveJoints(np.array(numbers[:6]), *(numbers[6:8] if len(numbers) >= 8 else (1.05, 1.4)))
        else:
            unknown.append(line)
    return unknown
