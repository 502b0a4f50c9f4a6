"""The dashboard of a UR controller and the checks before anything connects: every call ends within its timeout.

Source: Universal Robots, "Dashboard Server e-Series".
"""

from __future__ import annotations

import contextlib
import re
import socket
import time

from cascade.contracts.errors import DeviceError

DASHBOARD_PORT, SCRIPT_PORT = 29999, 30003
_SERVICES = "Settings > Security > Services"


class Dashboard:
    """One connection; used by one thread."""

    def __init__(self, host: str, port: int = DASHBOARD_PORT) -> None:
        self.host, self.port = host, port
        self._socket: socket.socket | None = None
        self._received = b""

    def connect(self, timeout_s: float) -> None:
        """Connect and read the greeting.

        Raises:
            DeviceError: unreachable, closed, or silent (half-open).
        """
        self.close()
        self._socket = open_port(self.host, self.port, "dashboard", timeout_s)
        self._line(timeout_s)

    def ask(self, command: str, timeout_s: float = 2.0) -> str:
        """Return the answer to one command; raises DeviceError on silence."""
        if self._socket is None:
            raise DeviceError(f"{self.host}: the dashboard is not connected.", "Connect first.")
        try:
            self._socket.settimeout(timeout_s)
            self._socket.sendall(command.encode() + b"\n")
        except OSError as error:
            raise DeviceError(f"{self.host}: the dashboard connection broke: {error}.", "Connect again.") from error
        return self._line(timeout_s)

    def _line(self, timeout_s: float) -> str:
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._received:
            left = deadline - time.monotonic()
            try:
                if left <= 0 or self._socket is None:
                    raise TimeoutError
                self._socket.settimeout(left)
                data = self._socket.recv(4096)
                if not data:
                    raise ConnectionError("it was closed")
                self._received += data
            except TimeoutError:
                raise DeviceError(
                    f"{self.host}:{self.port} (dashboard): expected an answer within {timeout_s:.1f} s, found silence.",
                    "The connection is half-open: power cycle the controller, then try again.",
                ) from None
            except OSError as error:
                raise DeviceError(f"{self.host}: the dashboard connection broke: {error}.", "Connect again.") from error
        line, _, self._received = self._received.partition(b"\n")
        return line.decode(errors="replace").strip()

    def close(self) -> None:
        """Hang up; never raises."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
        self._socket, self._received = None, b""


def open_port(host: str, port: int, what: str, timeout_s: float) -> socket.socket:
    """Return a connected socket; raises DeviceError naming port, service and the missing step."""
    try:
        connection = socket.create_connection((host, port), timeout=timeout_s)
    except socket.gaierror as error:
        raise DeviceError(f"host {host!r}: expected a name or address, found none of that name.", str(error)) from error
    except ConnectionRefusedError as error:
        raise DeviceError(
            f"{host}:{port} ({what}): expected an open port, it is closed.",
            f"Wait until the controller is up; enable the service in {_SERVICES}.",
        ) from error
    except TimeoutError as error:
        raise DeviceError(
            f"{host}:{port} ({what}): no answer within {timeout_s:.1f} s.",
            "Check address, cable and firewall; the controller must be in the same network.",
        ) from error
    except OSError as error:
        raise DeviceError(
            f"{host}:{port} ({what}): cannot be reached: {error}.",
            "Check address, cable and the network of this machine.",
        ) from error
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def version_of(dashboard: Dashboard) -> tuple[int, int]:
    """Return (major, minor) of PolyScope, (0, 0) when it does not say."""
    found = re.search(r"(\d+)\.(\d+)\.\d+", dashboard.ask("PolyscopeVersion"))
    return (int(found.group(1)), int(found.group(2))) if found else (0, 0)


def check_identity(dashboard: Dashboard, model: str) -> None:
    """Raise DeviceError when the controller belongs to another model than the rig says."""
    found = dashboard.ask("get robot model").strip().upper()
    wanted = model.upper().rstrip("E")
    if found.startswith("UR") and found.rstrip("E") != wanted:
        raise DeviceError(
            f"{dashboard.host}: expected a {model}, the controller says it drives a {found}.",
            "Check `host` and `model` in the rig file.",
        )


def check_remote(dashboard: Dashboard) -> None:
    """Raise DeviceError when a controller that knows the difference is in local control."""
    if version_of(dashboard) >= (5, 6) and "true" not in dashboard.ask("is in remote control").lower():
        raise DeviceError(
            f"{dashboard.host}: expected remote control, the controller is in local control.",
            "On the pendant: enable Settings > System > Remote Control, then choose Remote at the top right.",
        )
