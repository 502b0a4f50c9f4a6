"""ur_rtde's control interface, with what it needs around it: how to open it, what it says, and how to leave it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from collections.abc import Iterator
from typing import Any

from cascade.contracts.errors import DeviceError
from robot_io.arms.ur_errors import control_refused

RTDE_HZ = 500.0


def control_class() -> Any:
    """Return ur_rtde's control class; raises DeviceError naming the extra."""
    try:
        from rtde_control import RTDEControlInterface
    except ImportError as error:
        raise DeviceError(
            f"arm 'ur': expected the package ur-rtde, found: {error}.", 'pip install "cascade-wam[ur]"'
        ) from error
    return RTDEControlInterface


def open_control(interface: Any, host: str, *, upper_registers: bool, deadline_s: float) -> Any:
    """Connect ur_rtde's control class; tries again until a monotonic time, and raises DeviceError then."""
    # Without the upload flag nothing runs yet, and a reconnecting interface could not start anything either.
    # The input for external force sensors has one copy, not one in each half of the registers: leave it alone.
    flags = interface.FLAG_NO_WAIT | interface.FLAG_NO_EXT_FT
    if upper_registers:
        flags |= interface.FLAG_UPPER_RANGE_REGISTERS
    while True:
        try:
            return interface(host, RTDE_HZ, flags)
        except (RuntimeError, ValueError) as error:
            # Right after an emergency stop the controller often refuses the first attempts.
            if time.monotonic() + 0.5 > deadline_s or "in use" in str(error):
                raise control_refused(host, error) from error
            time.sleep(0.3)


def keep_forever(control: Any) -> None:
    """Never run its destructor; this process is the arm's own and ends soon.

    The destructor disconnects again: half a second more, and with a dead connection a wait without end or a crash.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(control))


@contextlib.contextmanager
def vendor_errors(host: str) -> Iterator[None]:
    """Let what ur_rtde raises leave as DeviceError: it means that its connection broke."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise DeviceError(f"{host}: ur_rtde reports: {error}.", "Connect again.") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Send standard error nowhere meanwhile, C++ streams included; this process is the arm's own."""
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
