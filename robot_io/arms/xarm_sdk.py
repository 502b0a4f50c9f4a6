"""UFACTORY's SDK, contained: loaded only here, quiet, without its process-wide side effects; and a timed greeting.

The SDK sets a default timeout for every socket of the process each time it opens one, prints to standard output,
prefers a UNIX socket of a well-known name in /tmp over the address it is given, and asks a silent controller for its
version for minutes. None of that reaches the rest of the process: the SDK sees a copy of the socket module, prints
nothing, is told not to look in /tmp, and only meets controllers that have answered a greeting.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import re
import socket
import struct
import sys
import threading
import time
import types
from dataclasses import dataclass
from typing import Any

from cascade.contracts.errors import DeviceError

REPORT_PORTS = {"normal": 30001, "real": 30003}
_GET_VERSION = 1
_VERSION_BYTES = 40


@dataclass(frozen=True, slots=True)
class Identity:
    """What a controller says of itself: number of joints, device type, firmware."""

    axes: int
    device_type: int
    firmware: tuple[int, int, int]


def greet(host: str, port: int, report: str, timeout_s: float) -> Identity:
    """Reach both ports and ask the controller who it is.

    Raises:
        DeviceError: naming the port that is closed or silent, or what else answered.
    """
    deadline_s = time.monotonic() + timeout_s
    _reach(host, REPORT_PORTS[report], deadline_s, "report").close()
    with _reach(host, port, deadline_s, "command") as link:
        link.sendall(struct.pack(">HHHB", 1, 2, 1, _GET_VERSION))
        reply = _reply(link, host, port, deadline_s)
    text = reply[8:].split(b"\0")[0].decode("ascii", "replace")
    found = re.match(r"\D*(\d+),(\d+),.*?v?(\d+)\.(\d+)\.(\d+)\D*$", text)
    if found is None:
        raise DeviceError(
            f"xArm at {host}:{port}: expected its model and firmware, found {text!r}.",
            "Update the controller's firmware to 1.9.110 or later.",
        )
    axes, device_type, *firmware = (int(group) for group in found.groups())
    return Identity(axes, device_type, (firmware[0], firmware[1], firmware[2]))


def _reach(host: str, port: int, deadline_s: float, what: str) -> socket.socket:
    try:
        return socket.create_connection((host, port), timeout=max(0.05, deadline_s - time.monotonic()))
    except OSError as error:
        raise DeviceError(
            f"xArm at {host}: its {what} port {port} cannot be reached ({error}).",
            "Check that the controller is on, the cable and the address (it is printed on the control box).",
        ) from error


def _reply(link: socket.socket, host: str, port: int, deadline_s: float) -> bytes:
    data = b""
    while len(data) < 6 or len(data) < 6 + int.from_bytes(data[4:6], "big"):
        link.settimeout(max(0.05, deadline_s - time.monotonic()))
        try:
            more = link.recv(256)
        except OSError as error:
            raise DeviceError(
                f"xArm at {host}:{port}: the port is open, but nothing answers ({error}).",
                "Wait until the controller has started, or restart it.",
            ) from error
        if not more or len(data) > 6 + 2 * _VERSION_BYTES:
            raise DeviceError(f"xArm at {host}:{port}: what answers is not an xArm.", "Check host and port.")
        data += more
    return data


def open_api(host: str, port: int, report: str, timeout_s: float) -> Any:
    """Return a connected `XArmAPI`; nothing moves.

    Raises:
        DeviceError: when the SDK is missing or does not connect in time.
    """
    api_class, ports = _load()
    ports.TCP_CONTROL_PORT = port
    api = api_class(host, is_radian=True, do_not_open=True, report_type=report, forbid_uds=True, timed_comm=False)
    failure: list[BaseException] = []

    def connect() -> None:
        try:
            api.connect()
        except Exception as error:  # the SDK raises bare Exception
            failure.append(error)

    thread = threading.Thread(target=connect, daemon=True, name="xarm-connect")
    thread.start()
    thread.join(timeout_s)
    if thread.is_alive() or failure or not api.connected:
        close_api(api)
        why = failure[0] if failure else f"no answer within {timeout_s:.1f} s"
        raise DeviceError(f"xArm at {host}:{port}: the SDK does not connect ({why}).", "Restart the controller.")
    return api


def close_api(api: Any, timeout_s: float = 1.0) -> None:
    """Disconnect within `timeout_s`; never raises."""

    def disconnect() -> None:
        with contextlib.suppress(Exception):
            api.disconnect()

    thread = threading.Thread(target=disconnect, daemon=True, name="xarm-close")
    thread.start()
    thread.join(timeout_s)


def _load() -> tuple[Any, Any]:
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            wrapper = importlib.import_module("xarm.wrapper")
    except ImportError as error:
        raise DeviceError(
            f"xArm: the vendor's SDK is not installed ({error}).", 'Install it: pip install "cascade-wam[xarm]".'
        ) from error
    socket_port = importlib.import_module("xarm.core.comm.socket_port")
    contained = types.ModuleType("socket")
    contained.__dict__.update(socket.__dict__)
    contained.__dict__["setdefaulttimeout"] = lambda timeout: None
    socket_port.__dict__["socket"] = contained
    for name, module in list(sys.modules.items()):
        if name.startswith("xarm.") and module is not None:
            module.__dict__["print"] = _say_nothing
    for logger in ("logger", "origin_logger"):
        getattr(importlib.import_module("xarm.core.utils.log"), logger).setLevel(logging.CRITICAL)
    return wrapper.XArmAPI, importlib.import_module("xarm.core.config.x_config").XCONF.SocketConf


def _say_nothing(*_: object, **__: object) -> None:
    """Stand in for the SDK's print."""
