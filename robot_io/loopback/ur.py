"""A UR controller on loopback, for trying a rig without a robot and for tests.

The real clients (`rtde_control`, `rtde_receive`, `dashboard_client` of ur-rtde) connect to it at an address of its own,
such as 127.20.3.7, since they cannot be given ports. It runs in a process of its own; its knobs break it in the ways a
controller, a cable or a person breaks things.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from cascade.contracts.errors import DeviceError
from robot_io.loopback.ur_controller import DASHBOARD, RTDE, Controller

KNOBS = (
    "cut",
    "mute",
    "half_open",
    "close_ports",
    "open_ports",
    "freeze_timestamp",
    "protective_stop",
    "safeguard_stop",
    "emergency_stop",
    "violation",
    "fault",
    "reduced_mode",
    "unlock",
    "power",
    "local_mode",
    "no_inverse",
    "force",
    "place",
    "reset",
    "setpoints",
    "trace",
    "state",
)
"""What the control port takes: one line of JSON, `{"do": NAME, "with": [...]}`, answered by one line."""


class URLoopback:
    """An emulated UR in a process of its own; every name in `KNOBS` is a method (see `ur_controller.Controller`).

    Args:
        model: ur3e, ur5e or ur10e.
        options: those of `ur_controller.Controller`.
    """

    def __init__(self, model: str = "ur5e", **options: Any) -> None:
        self.model, self._options = model, options
        self.address = ""
        self._process: subprocess.Popen[str] | None = None
        self._control: socket.socket | None = None

    def start(self) -> URLoopback:
        """Start the process and wait until its ports are open; raises DeviceError when it does not come up."""
        command = [sys.executable, "-m", "robot_io.loopback", self.model, "--json", json.dumps(self._options)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            self.close()
            raise DeviceError(f"loopback {self.model}: its process ended at once.", "It says why on standard error.")
        ready = json.loads(line)
        self.address = ready["address"]
        self._control = socket.create_connection(("127.0.0.1", ready["control"]), timeout=10.0)
        self._answers = self._control.makefile("r")
        return self

    def __enter__(self) -> URLoopback:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in KNOBS:
            raise AttributeError(name)
        return lambda *arguments: self._do(name, *arguments)

    def _do(self, name: str, *arguments: Any) -> Any:
        if self._control is None:
            raise DeviceError(f"loopback {self.model}: expected a started one.", "Call start() first.")
        self._control.sendall((json.dumps({"do": name, "with": arguments}) + "\n").encode())
        line = self._answers.readline()
        if not line:
            raise DeviceError(f"loopback {self.model}: its process is gone.", "See what it wrote to standard error.")
        answer = json.loads(line)
        if "error" in answer:
            raise DeviceError(f"loopback {self.model}: {answer['error']}.")
        return answer["result"]

    def close(self) -> None:
        """End the process."""
        if self._control is not None:
            self._answers.close()
            self._control.close()
            self._control = None
        if self._process is not None:
            if self._process.stdin is not None:
                self._process.stdin.close()  # the process ends with its standard input
            try:
                self._process.wait(5.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None


class _ControlPort:
    """Knobs for other processes."""

    def __init__(self, controller: Controller, port: int) -> None:
        self._controller = controller
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        controller.register(self._listener, self._accept)

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        lines = connection.makefile("r")

        def serve() -> None:
            line = lines.readline()
            if not line:
                self._controller.unregister(connection)
                lines.close()
                connection.close()
                return
            connection.sendall((json.dumps(self._answer(line)) + "\n").encode())

        self._controller.register(connection, serve)

    def _answer(self, line: str) -> dict[str, Any]:
        try:
            asked = json.loads(line)
            if asked["do"] not in KNOBS:
                return {"result": None, "error": f"no knob {asked['do']!r}; known: {', '.join(KNOBS)}"}
            return {"result": getattr(self._controller, asked["do"])(*asked.get("with", []))}
        except (ValueError, TypeError, KeyError) as error:
            return {"result": None, "error": str(error)}

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()


def _ends_with_input(controller: Controller) -> None:
    """Close the controller when standard input ends, so that nothing outlives whoever started it."""
    controller.register(sys.stdin, controller.close)


def serve(model: str, arguments: list[str]) -> int:
    """Run one in this process until interrupted; what `python -m robot_io.loopback MODEL` calls."""
    parser = argparse.ArgumentParser(prog=f"python -m robot_io.loopback {model}", description=__doc__)
    parser.add_argument("--address", help="an address of this machine; default: a free one in 127/8")
    parser.add_argument("--control-port", type=int, default=0, help="where knobs are taken; default: a free one")
    parser.add_argument("--json", help="options as JSON; say where it is as JSON; end with standard input")
    chosen = parser.parse_args(arguments)
    options = {"address": chosen.address, **(json.loads(chosen.json) if chosen.json else {})}
    try:
        controller = Controller(model, **options)
        control = _ControlPort(controller, chosen.control_port)
    except OSError as error:
        where = options["address"] or "127/8"
        print(f"{model}: expected free ports at {where}, found: {error}. Choose another address.", file=sys.stderr)  # noqa: T201
        return 3
    if chosen.json is None:
        print(  # noqa: T201  (what the command is for)
            f"{model} at {controller.address}: RTDE {RTDE}, script 30001-30003, dashboard {DASHBOARD}.\n"
            f"In a rig: arm: {{plugin: ur, options: {{model: {model}, host: {controller.address}}}}}\n"
            f'Knobs: echo \'{{"do": "protective_stop"}}\' | nc -q1 127.0.0.1 {control.port}\n'
            f"       {', '.join(KNOBS)}\nCtrl-C ends it."
        )
    else:
        print(json.dumps({"address": controller.address, "control": control.port}), flush=True)  # noqa: T201
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for whoever started it
        _ends_with_input(controller)
    # A controller has a processor of its own; here it only gets ahead of the queue, where that is allowed.
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(5))
    with contextlib.suppress(KeyboardInterrupt):
        controller.run()
    control.close()
    return 0
