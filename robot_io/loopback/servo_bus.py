"""A bus of simulated servos on a pseudo terminal: Feetech STS or Dynamixel 2.0, with faults at will.

    with ServoBus("feetech", SO101_SERVOS) as bus:
        driver_options = {"port": bus.address, ...}
        bus.dead([3])

The servos live in a process of their own. `bus.address` is a path that a serial library opens like a device and that
stays the same over `unplug` and `replug`. Another process steers the same bus with `ServoBusControl(bus.control)`.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from cascade.contracts.errors import DeviceError

STS3215 = 777
XL430_W250 = 1060
XL330_M288 = 1200


@dataclass(frozen=True, slots=True)
class ServoSpec:
    """One servo at the start.

    Attributes:
        id: on the bus; model: the maker's model number.
        ticks: position of the shaft, counted over turns of 4096.
        lower_stop, upper_stop: mechanical stops, counted likewise.
        voltage_v: supply.
    """

    id: int
    model: int = STS3215
    ticks: float = 2048.0
    lower_stop: float = 0.0
    upper_stop: float = 4095.0
    voltage_v: float = 7.4


SO101_SERVOS = (
    ServoSpec(1, lower_stop=796, upper_stop=3300),
    ServoSpec(2, lower_stop=910, upper_stop=3186),
    ServoSpec(3, lower_stop=946, upper_stop=3150),
    ServoSpec(4, lower_stop=967, upper_stop=3129),
    ServoSpec(5, lower_stop=0, upper_stop=4095),
    ServoSpec(6, lower_stop=1934, upper_stop=3186),
)
"""An SO-101 whose joints stand in the middle; the gripper (6) is almost closed."""

KOCH_SERVOS = (
    *(ServoSpec(i, XL430_W250, voltage_v=12.0) for i in (1, 2)),
    *(ServoSpec(i, XL330_M288, voltage_v=5.0) for i in (3, 4, 5, 6)),
)
"""A Koch v1.1 follower in the middle of its ranges."""


class ServoBusControl:
    """Steers the faults of a bus, from any process. Ids name servos; a fault stays until it is set otherwise."""

    def __init__(self, control: str) -> None:
        self.control = control

    def _order(self, name: str, **arguments: Any) -> Any:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10.0)
            connection.connect(self.control)
            connection.sendall(json.dumps({"do": name, **arguments}).encode() + b"\n")
            with connection.makefile("rb") as lines:
                answer = json.loads(lines.readline())
        if "error" in answer:
            raise DeviceError(f"simulated servo bus: {answer['error']}.")
        return answer["ok"]

    def dead(self, ids: Sequence[int]) -> None:
        """Make exactly these servos deaf and mute; none with an empty list."""
        self._order("dead", ids=list(ids))

    def drop(self, share: float) -> None:
        """Lose this share of requests, and of replies."""
        self._order("drop", share=share)

    def corrupt(self, share: float) -> None:
        """Flip bits in this share of replies."""
        self._order("corrupt", share=share)

    def delay(self, delay_s: float) -> None:
        """Answer every request late."""
        self._order("delay", delay_s=delay_s)

    def chain(self, on: bool) -> None:
        """Let each servo of a sync read wait for the one before it: all after a dead one keep silent."""
        self._order("chain", on=on)

    def error(self, servo: int, bits: int) -> None:
        """Set a servo's error bits, in its maker's meaning; 0 takes them back."""
        self._order("error", id=servo, bits=bits)

    def temperature(self, servo: int, celsius: float) -> None:
        """Set what a servo's thermometer reads."""
        self._order("temperature", id=servo, celsius=celsius)

    def voltage(self, volts: float, servo: int | None = None) -> None:
        """Set the supply of one servo, or of all."""
        self._order("voltage", volts=volts, id=servo)

    def block(self, servo: int, lower: float, upper: float) -> None:
        """Set a servo's mechanical stops [ticks over turns], for instance an object between the fingers."""
        self._order("block", id=servo, lower=lower, upper=upper)

    def by_hand(self, servo: int, ticks: float) -> None:
        """Turn a shaft by hand, within its stops."""
        self._order("by_hand", id=servo, ticks=ticks)

    def poke(self, servo: int, address: int, data: Sequence[int]) -> None:
        """Set registers behind the servo's back."""
        self._order("poke", id=servo, address=address, data=list(data))

    def peek(self, servo: int, address: int, size: int) -> bytes:
        """Return registers."""
        return bytes(self._order("peek", id=servo, address=address, size=size))

    def servos(self) -> dict[int, dict[str, float]]:
        """Return per id: torque_on, goal, position, torque_limit, load, error, and what its maker has besides."""
        return {int(servo): state for servo, state in self._order("servos").items()}

    def goals(self) -> list[tuple[float, int, int]]:
        """Return (monotonic time [s], id, goal [ticks]) of every goal written so far."""
        return [(t, servo, goal) for t, servo, goal in self._order("goals")]

    def requests(self) -> list[tuple[float, int, int]]:
        """Return (monotonic time [s], target id, instruction) of every request that arrived."""
        return [(t, target, instruction) for t, target, instruction in self._order("requests")]

    def forget(self) -> None:
        """Empty both logs."""
        self._order("forget")

    def unplug(self) -> None:
        """Pull the cable; the servos keep their power and goals."""
        self._order("unplug")

    def replug(self, servos: Sequence[ServoSpec] | None = None) -> None:
        """Plug the cable in again, into other servos where given."""
        self._order("replug", servos=None if servos is None else [asdict(servo) for servo in servos])


class ServoBus(ServoBusControl):
    """A running bus; use it as a context manager, or `start` and `close` it."""

    def __init__(
        self, protocol: Literal["feetech", "dynamixel"], servos: Sequence[ServoSpec], *, seed: int = 0
    ) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="servo-bus-"))
        super().__init__(str(self._folder / "control"))
        self.address = str(self._folder / "port")
        self._protocol = protocol
        self._servos = tuple(servos)
        self._seed = seed
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> Self:
        """Start the process; returns when it answers. Raises DeviceError when it does not."""
        described = {
            "protocol": self._protocol,
            "servos": [asdict(servo) for servo in self._servos],
            "folder": str(self._folder),
            "seed": self._seed,
        }
        self._process = subprocess.Popen(  # noqa: S603  (our own module)
            [sys.executable, "-m", "robot_io.loopback.servo_bus_server", json.dumps(described)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for the one who started us; we end with our standard input
        )
        assert self._process.stdout is not None  # noqa: S101  (PIPE above)
        if self._process.stdout.readline().strip() != "ready":
            self.close()
            raise DeviceError("simulated servo bus: its process did not start.", "Its message stands above.")
        return self

    def close(self) -> None:
        """End the process and remove its folder; may be called twice."""
        process, self._process = self._process, None
        if process is not None:
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()
            try:
                process.wait(timeout=5.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
