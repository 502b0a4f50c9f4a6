"""How long one sync read of a servo arm takes, through our Feetech bus and through Dynamixel's SDK as we use it.

    python benchmarks/servo_bus.py [--reads 2000] [--json out.json]

Both against a simulated bus of six servos on a pseudo terminal, which has no baud rate: what is measured is our code,
the kernel's terminal and the scheduling of two processes; a real bus adds about 1.3 ms of bits at 1 Mbit/s.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from robot_io.arms.dynamixel_bus import DynamixelBus
from robot_io.arms.feetech_bus import FeetechBus
from robot_io.loopback.servo_bus import KOCH_SERVOS, SO101_SERVOS, ServoBus

IDS = (1, 2, 3, 4, 5, 6)


def main() -> None:
    """Measure, print a table, write the JSON file where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reads", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    results = {}
    print(f"{platform.node()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {datetime.now(UTC):%Y-%m-%d}")
    print("| bus | lost frames | p50 ms | p99 ms | max ms | CPU ms per read | asked again | failed |")
    print("|---|---|---|---|---|---|---|---|")
    for lost in (0.0, 0.01):
        for name, measure in (("feetech", measure_feetech), ("dynamixel", measure_dynamixel)):
            row = measure(chosen.reads, lost)
            results[f"{name} {lost:g}"] = row
            print(
                f"| {name} | {lost:.0%} | {row['p50_ms']:.2f} | {row['p99_ms']:.2f} | {row['max_ms']:.1f} "
                f"| {row['cpu_ms']:.2f} | {row['retries']:.0f} | {row['failed']:.0f} |"
            )
    if chosen.json:
        chosen.json.write_text(json.dumps(results, indent=2))


def measure_feetech(reads: int, lost: float) -> dict[str, float]:
    """Return milliseconds of our own bus."""
    with ServoBus("feetech", SO101_SERVOS) as simulated:
        bus = FeetechBus(simulated.address)
        bus.open()
        simulated.drop(lost)
        row = timed(reads, lambda: len(bus.sync_read(IDS, 56, 15)[1]))
        bus.close()
        return {**row, "retries": bus.counts.retries}


def measure_dynamixel(reads: int, lost: float) -> dict[str, float]:
    """Return milliseconds of the vendor's SDK with our port."""
    with ServoBus("dynamixel", KOCH_SERVOS) as simulated:
        bus = DynamixelBus(simulated.address, baud_hz=1_000_000)
        bus.open()
        simulated.drop(lost)
        row = timed(reads, lambda: len(bus.sync_read(IDS, 120, 27)[1]))
        bus.close()
        return {**row, "retries": bus.retries}


def timed(reads: int, read: Callable[[], int]) -> dict[str, float]:
    """Time many calls at 100 Hz; each returns how many servos stayed silent."""
    taken_ms, failed = [], 0
    for _ in range(20):
        read()
    cpu_s = time.process_time()
    for _ in range(reads):
        began = time.perf_counter()
        failed += read() > 0
        taken_ms.append((time.perf_counter() - began) * 1e3)
        time.sleep(max(0.0, 0.01 - taken_ms[-1] / 1e3))
    p50, p99 = np.percentile(taken_ms, [50, 99])
    cpu_ms = (time.process_time() - cpu_s) * 1e3 / reads
    return {"p50_ms": p50, "p99_ms": p99, "max_ms": max(taken_ms), "cpu_ms": cpu_ms, "failed": failed}


if __name__ == "__main__":
    main()
