"""Is this machine fit to drive an arm: scheduling, punctuality, serial ports, vendors' packages."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from pathlib import Path

from cascade.checks import Check, Status
from cascade.plugins import list_plugins
from cascade.vendor import install_line, vendor_packages

RATE_HZ, TICKS = 125.0, 100
LATE_MS = 8.0  # a whole period at 125 Hz

_PROBE = "import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))"


def check_vendor_packages() -> Check:
    """Packages of the arms' vendors that are installed, and what installs the others."""
    there: list[str] = []
    missing: list[str] = []
    for info in list_plugins("arm"):
        packages = vendor_packages(info.name)
        (missing if None in packages.values() else there).append(info.name)
    found = f"for {', '.join(there) or 'no arm'}"
    if missing:
        lines = "; ".join(install_line(name) for name in missing)
        return Check(
            "arm packages", Status.WARN, f"{found}; missing for {', '.join(missing)}", f"For those arms: {lines}"
        )
    return Check("arm packages", Status.OK, found)


def check_realtime() -> Check:
    """Whether the arm process gets real-time scheduling (SCHED_FIFO), tried in a process of its own."""
    kernel = "PREEMPT_RT" if "PREEMPT_RT" in platform.version() else "no PREEMPT_RT"
    done = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, check=False)  # noqa: S603  (our own code)
    if done.returncode == 0:
        return Check("real time", Status.OK, f"SCHED_FIFO is granted; kernel {platform.release()}, {kernel}")
    name = os.environ.get("USER", "YOU")
    fix = f"echo '{name} - rtprio 60' | sudo tee /etc/security/limits.d/90-cascade.conf, then log in again."
    return Check("real time", Status.WARN, f"SCHED_FIFO is refused; the arm process may be late; {kernel}", fix)


def check_timing() -> Check:
    """How late a plain loop at the arm process's rate is on this machine, now."""
    period_s, late_ms = 1.0 / RATE_HZ, []
    due = time.monotonic()
    for _ in range(TICKS):
        due += period_s
        time.sleep(max(0.0, due - time.monotonic()))
        late_ms.append(max(0.0, (time.monotonic() - due) * 1e3))
    late_ms.sort()
    worst = late_ms[int(0.99 * (len(late_ms) - 1))]
    steps = time.get_clock_info("monotonic").resolution
    found = (
        f"{RATE_HZ:.0f} Hz: half within {late_ms[TICKS // 2]:.2f} ms, 99 % within {worst:.2f} ms; clock {steps:.0e} s"
    )
    if worst > LATE_MS:
        return Check("timing", Status.WARN, found, "End what else is running, or use a machine of its own for the arm.")
    return Check("timing", Status.OK, found)


def check_serial_group() -> Check:
    """Whether serial ports, which servo arms need, may be opened."""
    ports = [*Path("/dev").glob("ttyUSB*"), *Path("/dev").glob("ttyACM*")]
    if not ports:
        return Check("serial ports", Status.OK, "none is plugged in")
    closed = [str(port) for port in ports if not os.access(port, os.R_OK | os.W_OK)]
    if closed:
        fix = "sudo usermod -a -G dialout $USER, then log in again."
        return Check("serial ports", Status.WARN, f"{', '.join(closed)}: may not be opened by you", fix)
    return Check("serial ports", Status.OK, ", ".join(map(str, ports)))
