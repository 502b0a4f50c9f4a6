"""One process per device: a lock that the system lets go of when its holders die."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import tempfile
from pathlib import Path

from cascade.contracts import DeviceError


def run_folder() -> Path:
    """Folder of the locks: the user's run directory, else one of the user's own below the temporary directory."""
    run = os.environ.get("XDG_RUNTIME_DIR")
    folder = (
        Path(run) / "cascade" if run and Path(run).is_dir() else Path(tempfile.gettempdir()) / f"cascade-{os.getuid()}"
    )
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


class DeviceLock:
    """Holds a device for this process and for the children that inherit `fd`.

    Args:
        driver, address: name the device together.

    Raises:
        DeviceError: another process has it; the message names its pid.
    """

    def __init__(self, driver: str, address: str) -> None:
        key = f"{driver}:{address}"
        plain = re.sub(r"[^A-Za-z0-9.-]+", "_", key)[:60]
        path = run_folder() / f"arm-{plain}-{hashlib.sha256(key.encode()).hexdigest()[:8]}.lock"
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pid = os.pread(self.fd, 32, 0).decode(errors="ignore").strip() or "unknown"
            os.close(self.fd)
            raise DeviceError(
                f"arm {driver!r} at {address}: expected it free, found process {pid} using it.",
                "One process commands an arm: end the other one first.",
            ) from None
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let go; children that inherited it hold on until they end."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
