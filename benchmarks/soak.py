"""An hour of motion with random faults: does anything leak, crash, or happen without being told?

    python benchmarks/soak.py --minutes 60 --ahead --json runs/soak.json

Three devices at once, each with its real client against an emulated one: a UR5e behind its arm process at 125 Hz, an
SO-101 on a servo bus behind another, and a camera in its process. At random times each is broken in one of the ways of
docs/faults.md: the UR's link is cut (4) or its clock freezes (12), the bus loses packets, garbles them or has a dead
servo (19), the camera is unplugged or hangs (23). A script does what a person would: mends the thing, reads the fault,
clears it by its token, connects and arms again.

The verdict says yes only when memory is flat, no exception escaped, every fault that was made is in the log exactly
once, and every device was brought back each time. Faults that nobody made are listed; they are no failure of the log,
but of the machine's punctuality. `--ahead` runs everything ahead of other programs (SCHED_RR 4; needs permission),
as on a machine that has nothing else to do: emulated devices and their operator are not to be late by themselves.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from soak_devices import CUT, UR, ArmDevice, Camera, Device, Servos, told_once

ROOT = Path(__file__).resolve().parents[1]
SAMPLE_S = 10.0
FLAT = 0.05
LOGS_FULL_S = 600.0  # the emulated devices keep a bounded record of what they were sent; by then it is full


def resident_kib(pid: int) -> int | None:
    """Return the resident memory of a process, None when it is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS")), None)


def memory_rows(samples: list[tuple[float, str, int]], minutes: float) -> list[dict[str, Any]]:
    """Per role: medians of the first and the last third after the warm-up, and whether they agree."""
    total_s = minutes * 60.0
    rows = []
    for role in sorted({role for _, role, _ in samples}):
        warm_s = min(LOGS_FULL_S, total_s / 4)
        span_s = (total_s - warm_s) / 3
        values = [[], []]  # type: list[list[int]]
        for at_s, name, kib in samples:
            if name == role and warm_s <= at_s:
                if at_s < warm_s + span_s:
                    values[0].append(kib)
                elif at_s > total_s - span_s:
                    values[1].append(kib)
        first, last = (statistics.median(part) if part else float("nan") for part in values)
        judged = not role.startswith("emulated") or warm_s >= LOGS_FULL_S
        growth = last / first - 1
        rows.append(
            {
                "process": role,
                "first_mib": round(first / 1024, 1),
                "last_mib": round(last / 1024, 1),
                "growth": round(growth, 4),
                "samples": sum(name == role for _, name, _ in samples),
                "flat": bool(abs(growth) <= FLAT) if judged else None,
            }
        )
    return rows


def soak(minutes: float, seed: int = 0, gap_s: float = 25.0) -> dict[str, Any]:
    """Run it and return everything that was seen, with the verdict."""
    uncaught: list[str] = []
    threading.excepthook = lambda args: uncaught.append(f"{args.exc_type.__name__}: {args.exc_value}")
    samples: list[tuple[float, str, int]] = []
    with tempfile.TemporaryDirectory(prefix="cascade-soak-") as folder, _stderr_kept() as said:
        servos = Servos(seed + 2, gap_s, Path(folder))
        devices: list[Device] = [UR(seed + 1, gap_s), servos, Camera(seed + 3, gap_s, Path(folder))]
        threads = [threading.Thread(target=device.run, name=device.name) for device in devices]
        began_s = time.monotonic()
        for device, thread in zip(devices, threads, strict=True):
            device.began_s, device.end_s = began_s, began_s + minutes * 60.0
            thread.start()
        try:
            while any(thread.is_alive() for thread in threads):
                _sample(devices, samples, began_s)
                time.sleep(SAMPLE_S)
        finally:
            for device in devices:
                device.end_s = 0.0
            for thread in threads:
                thread.join(60.0)
            for device in devices:
                if isinstance(device, ArmDevice):
                    device.arm.close()
            devices[0].controller.close()  # type: ignore[attr-defined]
            servos.bus.close()
        text = said()
    document = {
        "benchmark": "soak",
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "minutes": minutes,
        "ahead": os.sched_getscheduler(0) == os.SCHED_RR,
        "load_average_15min": round(os.getloadavg()[2], 2),
        "memory": memory_rows(samples, minutes),
        "injections": [
            {"device": d.name, **asdict(i), "told_once": i.told_once} for d in devices for i in d.injections
        ],
        "unprovoked": [{"device": d.name, **line} for d in devices for line in d.unprovoked],
        "lateness": {d.name: _lateness(d.lateness) for d in devices if d.lateness},
        "exceptions": uncaught + [d.crash for d in devices if d.crash] + tracebacks(text),
        "stderr": text[-4000:],
        "rss_kib": samples,
    }
    return document | {"verdict": judge(document)}


def _sample(devices: list[Device], samples: list[tuple[float, str, int]], began_s: float) -> None:
    pids = {"caller": os.getpid()}
    for device in devices:
        pids |= device.pids()
        if isinstance(device, ArmDevice):
            device.note_lateness()
    at_s = round(time.monotonic() - began_s, 1)
    for role, pid in pids.items():
        kib = resident_kib(pid)
        if kib:
            samples.append((at_s, role, kib))


def _lateness(windows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "scheduling": windows[-1]["scheduling"],
        "rate_hz": windows[-1]["rate_hz"],
        "windows": len(windows),
        "p50_ms": round(statistics.median(w["p50_ms"] for w in windows), 3),
        "p99_ms": round(statistics.median(w["p99_ms"] for w in windows), 3),
        "worst_ms": round(max(w["worst_ms"] for w in windows), 3),
    }


class _stderr_kept:  # noqa: N801
    """Keeps what this process and its children write to standard error, tracebacks of children included."""

    def __enter__(self) -> Callable[[], str]:
        self._file = tempfile.TemporaryFile()
        self._saved = os.dup(2)
        os.dup2(self._file.fileno(), 2)
        return self.said

    def said(self) -> str:
        """Return it."""
        self._file.seek(0)
        return self._file.read().decode(errors="replace")

    def __exit__(self, *_: object) -> None:
        os.dup2(self._saved, 2)
        os.close(self._saved)
        self._file.close()


def tracebacks(text: str) -> list[str]:
    """Return the tracebacks in what all processes wrote to standard error."""
    return ["Traceback" + part[:2000] for part in text.split("Traceback")[1:]]


def judge(document: dict[str, Any]) -> dict[str, bool]:
    """Return the four answers."""
    made = document["injections"]
    return {
        "memory_flat": all(row["flat"] is not False for row in document["memory"]),
        "no_exception": not document["exceptions"],
        "every_fault_told_once": bool(made) and all(one["told_once"] for one in made),
        "always_brought_back": bool(made) and all(one["recovered"] for one in made),
    }


def judge_again(document: dict[str, Any]) -> dict[str, Any]:
    """Return a record with every fault judged by what is expected of it now."""
    for one in document["injections"]:
        one["expected"] = list(CUT) if one["what"] == "cut" else one["expected"]
        one["told_once"] = told_once(one["found"], one["expected"])
    return document | {"verdict": judge(document)}


def commit() -> str:
    """Return the commit that is measured, marked when files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip() or "unknown"


def show(document: dict[str, Any]) -> None:
    """Print it for people."""
    print(f"{document['when']}  commit {document['commit']}  {document['minutes']:g} minutes")
    for row in document["memory"]:
        words = {True: "flat", False: "NOT FLAT", None: "record still filling"}[row["flat"]]
        print(
            f"  {row['process']:18} {row['first_mib']:8.1f} -> {row['last_mib']:8.1f} MiB  {row['growth']:+.1%} {words}"
        )
    for name, late in document["lateness"].items():
        print(f"  {name}: {late['rate_hz']:g} Hz {late['scheduling']}, lateness p50 {late['p50_ms']} ms, ", end="")
        print(f"p99 {late['p99_ms']} ms, worst {late['worst_ms']} ms")
    made = document["injections"]
    for number in sorted({one["number"] for one in made}):
        these = [one for one in made if one["number"] == number]
        took = [one["reaction_ms"] for one in these if one["reaction_ms"] is not None and one["expected"]]
        reaction = f", reaction median {statistics.median(took):.0f} ms, worst {max(took):.0f} ms" if took else ""
        print(f"  fault {number}: {len(these)} times, told once {sum(one['told_once'] for one in these)}{reaction}")
    for one in made:
        if not one["told_once"] or not one["recovered"]:
            print(f"    {one['at_s']:8.1f} s {one['device']} {one['what']}: told {one['found']}")
    print(f"  faults that nobody made: {len(document['unprovoked'])}")
    for line in document["unprovoked"]:
        print(f"    {line['at_s']:8.1f} s {line['device']} {line['code']} {line.get('message', '')}")
    for text in document["exceptions"]:
        print(f"  {text}")
    verdict = document["verdict"]
    print(f"{'KEPT' if all(verdict.values()) else 'NOT KEPT'}: " + ", ".join(f"{k} {v}" for k, v in verdict.items()))


def main() -> int:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--gap-s", type=float, default=25.0, help="mean time between faults of one device [s]")
    parser.add_argument("--ahead", action="store_true", help="run ahead of other programs")
    parser.add_argument("--json", type=Path, help="file for everything that was measured")
    parser.add_argument("--judge", type=Path, help="judge a file that --json wrote once more, instead of running")
    options = parser.parse_args()
    if options.judge:
        document = judge_again(json.loads(options.judge.read_text()))
        show(document)
        return 0 if all(document["verdict"].values()) else 1
    if options.ahead:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(4))  # emulated devices have 5
    document = soak(options.minutes, options.seed, options.gap_s)
    show(document)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0 if all(document["verdict"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
