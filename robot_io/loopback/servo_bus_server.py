"""The process behind `ServoBus`: a pseudo terminal with servos on it, and a socket that sets the faults.

Every line on the control socket is one JSON object {"do": NAME, ...}, answered by one line {"ok": VALUE} or
{"error": TEXT}. The process ends with the one that started it (end of file on standard input), so none is left over.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import selectors
import socket
import sys
import time
import tty
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from robot_io.loopback.servo_bus_dynamixel import DynamixelProtocol, DynamixelServo
from robot_io.loopback.servo_bus_feetech import SYNC_READ, FeetechProtocol, FeetechServo
from robot_io.loopback.servo_bus_servo import Motor, SimServo
from robot_io.loopback.servo_bus_wire import Reply, Request, WireProtocol

LOG_LENGTH = 50_000
_KINDS: dict[str, tuple[Callable[[], WireProtocol], type[SimServo]]] = {
    "feetech": (FeetechProtocol, FeetechServo),
    "dynamixel": (DynamixelProtocol, DynamixelServo),
}


class Port:
    """A pseudo terminal behind a link whose path stays the same when the terminal is replaced."""

    def __init__(self, link: Path) -> None:
        self.link = link
        self.master: int | None = None
        self._slave: int | None = None

    def plug(self) -> int:
        """Make the terminal and its link; return the file descriptor to serve."""
        self.master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self.master, False)
        self.link.unlink(missing_ok=True)
        self.link.symlink_to(os.ttyname(self._slave))
        return self.master

    def unplug(self) -> None:
        """Take the terminal away, as a pulled cable does."""
        self.link.unlink(missing_ok=True)
        for descriptor in (self.master, self._slave):
            if descriptor is not None:
                os.close(descriptor)
        self.master = self._slave = None


class Bus:
    """Servos on a wire with faults."""

    def __init__(self, protocol: str, servos: list[dict[str, Any]], seed: int) -> None:
        make, self._servo_class = _KINDS[protocol]
        self.protocol = make()
        self.servos = self._make(servos)
        self.random = random.Random(seed)  # noqa: S311  (faults, not secrets)
        self.dead: set[int] = set()
        self.drop_share = self.corrupt_share = self.delay_s = 0.0
        self.chained = False
        self.goals: deque[tuple[float, int, int]] = deque(maxlen=LOG_LENGTH)
        self.requests: deque[tuple[float, int, int]] = deque(maxlen=LOG_LENGTH)

    def _make(self, servos: list[dict[str, Any]]) -> dict[int, SimServo]:
        made = {}
        for given in servos:
            motor = Motor(ticks=given["ticks"], lower_stop=given["lower_stop"], upper_stop=given["upper_stop"])
            made[given["id"]] = self._servo_class(
                id=given["id"], model=given["model"], motor=motor, voltage_v=given["voltage_v"]
            )
        return made

    def replace(self, servos: list[dict[str, Any]]) -> None:
        """Put other servos on the wire."""
        self.servos = self._make(servos)

    def advance(self) -> float:
        """Bring every servo to the present; return it."""
        now_s = time.monotonic()
        for servo in self.servos.values():
            servo.advance(now_s)
        return now_s

    def handle(self, request: Request) -> list[bytes]:
        """Answer one request as far as the faults let it through."""
        now_s = self.advance()
        self.requests.append((now_s, request.target, request.instruction))
        if self._happens(self.drop_share):
            return []
        alive = {i: servo for i, servo in self.servos.items() if i not in self.dead}
        for servo in alive.values():
            if isinstance(servo, DynamixelServo):
                servo.heard(now_s)
        replies = self.protocol.answer(request, alive)
        for servo in alive.values():
            self.goals.extend((now_s, servo.id, goal) for goal in servo.take_goals())
        if self.chained and request.instruction == SYNC_READ:
            replies = self._until_first_missing(request, replies)
        sent = [reply.frame for reply in replies if not self._happens(self.drop_share)]
        if sent and self.delay_s:
            time.sleep(self.delay_s)
        return [self._corrupted(one) if self._happens(self.corrupt_share) else one for one in sent]

    def _happens(self, share: float) -> bool:
        return share > 0 and self.random.random() < share

    def _corrupted(self, frame: bytes) -> bytes:
        place = self.random.randrange(5, len(frame))
        return frame[:place] + bytes([frame[place] ^ 0x55]) + frame[place + 1 :]

    @staticmethod
    def _until_first_missing(request: Request, replies: list[Reply]) -> list[Reply]:
        kept = []
        for wanted, reply in zip(request.wanted, replies, strict=False):
            if reply.id != wanted:
                break
            kept.append(reply)
        return kept


class Control:
    """What may be asked on the control socket."""

    def __init__(self, bus: Bus, plug: Callable[[], None], unplug: Callable[[], None]) -> None:
        self._bus = bus
        self._plug = plug
        self._unplug = unplug

    def dead(self, ids: list[int]) -> None:
        """Make exactly these servos deaf and mute."""
        self._bus.dead = set(ids)

    def drop(self, share: float) -> None:
        """Lose this share of requests, and of replies."""
        self._bus.drop_share = share

    def corrupt(self, share: float) -> None:
        """Flip bits in this share of replies."""
        self._bus.corrupt_share = share

    def delay(self, delay_s: float) -> None:
        """Answer late."""
        self._bus.delay_s = delay_s

    def chain(self, on: bool) -> None:
        """Let servos of a sync read wait for the one before them, so that all after a dead one keep silent."""
        self._bus.chained = on

    def error(self, id: int, bits: int) -> None:
        """Set error bits of a servo; 0 takes them back."""
        self._bus.servos[id].forced_errors = bits

    def temperature(self, id: int, celsius: float) -> None:
        """Set what a servo's thermometer reads."""
        self._bus.servos[id].temperature_c = celsius

    def voltage(self, volts: float, id: int | None = None) -> None:
        """Set the supply of one servo or of all."""
        for servo in self._bus.servos.values():
            if id in (None, servo.id):
                servo.voltage_v = volts

    def block(self, id: int, lower: float, upper: float) -> None:
        """Set mechanical stops [ticks], for instance an object between the fingers."""
        motor = self._bus.servos[id].motor
        motor.lower_stop, motor.upper_stop = lower, upper

    def by_hand(self, id: int, ticks: float) -> None:
        """Turn a shaft by hand, within its stops."""
        motor = self._bus.servos[id].motor
        motor.ticks = min(max(ticks, motor.lower_stop), motor.upper_stop)

    def poke(self, id: int, address: int, data: list[int]) -> None:
        """Set registers directly, whatever the servo thinks of it."""
        self._bus.servos[id].registers[address : address + len(data)] = bytes(data)

    def peek(self, id: int, address: int, size: int) -> list[int]:
        """Return registers."""
        return list(self._bus.servos[id].read(address, size))

    def servos(self) -> dict[int, dict[str, float]]:
        """Return the state of every servo."""
        self._bus.advance()
        return {servo.id: servo.summary() for servo in self._bus.servos.values()}

    def goals(self) -> list[tuple[float, int, int]]:
        """Return (monotonic time, id, goal ticks) of everything written so far."""
        return list(self._bus.goals)

    def requests(self) -> list[tuple[float, int, int]]:
        """Return (monotonic time, target id, instruction) of every request."""
        return list(self._bus.requests)

    def forget(self) -> None:
        """Empty both logs."""
        self._bus.goals.clear()
        self._bus.requests.clear()

    def unplug(self) -> None:
        """Pull the cable; the servos keep their power and goals."""
        self._unplug()

    def replug(self, servos: list[dict[str, Any]] | None = None) -> None:
        """Plug the cable in again, into other servos where given."""
        if servos is not None:
            self._bus.replace(servos)
        self._plug()

    def ping(self) -> None:
        """Do nothing."""


class Server:
    """Serves the wire and the control socket from one thread."""

    def __init__(self, bus: Bus, port: Port, control_path: Path) -> None:
        self._bus = bus
        self._port = port
        self._wire = bytearray()
        self._selector = selectors.DefaultSelector()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(control_path))
        self._listener.listen()
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._control = Control(bus, self._plug, self._unplug)
        self._running = True
        self._plug()

    def watch_parent(self) -> None:
        """End when standard input does."""
        self._selector.register(sys.stdin.fileno(), selectors.EVENT_READ, self._parent_left)

    def run(self) -> None:
        """Serve until told otherwise."""
        try:
            while self._running:
                for key, _ in self._selector.select():
                    key.data(key.fileobj)
        finally:
            self._unplug()
            self._listener.close()

    def _parent_left(self, _: object) -> None:
        self._running = bool(os.read(sys.stdin.fileno(), 1))

    def _plug(self) -> None:
        self._unplug()
        self._selector.register(self._port.plug(), selectors.EVENT_READ, self._serve_wire)

    def _unplug(self) -> None:
        if self._port.master is not None:
            self._selector.unregister(self._port.master)
        self._wire.clear()
        self._port.unplug()

    def _serve_wire(self, master: int) -> None:
        try:
            self._wire += os.read(master, 4096)
        except OSError:  # nobody has the terminal open
            return
        for request in self._bus.protocol.parse(self._wire):
            for reply in self._bus.handle(request):
                with contextlib.suppress(BlockingIOError):  # nobody reads, the terminal is full: lost, as on a wire
                    os.write(master, reply)

    def _accept(self, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        self._selector.register(connection, selectors.EVENT_READ, self._serve_control)

    def _serve_control(self, connection: socket.socket) -> None:
        line = connection.makefile("rb").readline()
        if not line:
            self._selector.unregister(connection)
            connection.close()
            return
        if self._port.master is not None:
            self._serve_wire(self._port.master)  # what was written before the order comes before it
        connection.sendall(json.dumps(self._obey(json.loads(line))).encode() + b"\n")

    def _obey(self, order: dict[str, Any]) -> dict[str, Any]:
        name = str(order.pop("do"))
        method = None if name.startswith("_") else getattr(self._control, name, None)
        if method is None:
            return {"error": f"unknown order {name!r}"}
        try:
            return {"ok": method(**order)}
        except (KeyError, TypeError, ValueError, OSError) as error:
            return {"error": f"{name}: {error!r}"}


def main() -> None:
    """Serve the bus described by a JSON object on the command line."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("description", help="JSON: protocol, servos, folder, seed")
    given = json.loads(parser.parse_args().description)
    folder = Path(given["folder"])
    bus = Bus(given["protocol"], given["servos"], given["seed"])
    server = Server(bus, Port(folder / "port"), folder / "control")
    server.watch_parent()
    # A real bus answers at once; here the process only gets ahead of the queue, where that is allowed.
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(5))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    server.run()


if __name__ == "__main__":
    main()
