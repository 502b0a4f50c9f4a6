"""Break everything on purpose, measure how long it takes until the arm or camera reacts, and write docs/faults.md.

    python benchmarks/fault_table.py [--soak runs/soak.json] [--json faults.json] [--again faults.json] [--ahead]

Runs `pytest tests/robot_io/faults`, the slow ones too, and makes a table of what they measured. Fault 32, the hour of
soak, comes from `benchmarks/soak.py --json`. `--ahead` runs the tests ahead of other programs (SCHED_RR, where that is
allowed), as on a machine that has nothing else to do; arm processes ask for more than that by themselves.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from soak import judge_again

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests" / "robot_io" / "faults"

FAULTS = {
    1: ("the caller stops commanding in motion", "hold one cycle after the target's time to live; nothing replays"),
    2: ("the caller is killed", "the same; the arm process lets go and ends"),
    3: ("the arm process dies (SIGKILL, SIGSEGV)", "the controller's watchdog stops the arm; FAULT; no re-arming"),
    4: ("the link is cut", "FAULT `link_lost`; the process ends before its library reconnects; back to IDLE only"),
    5: ("the controller falls silent", "the same"),
    6: ("a port accepts and stays silent", "an error that names it; no thread of the caller stalls"),
    7: ("ports closed, local mode", "an error that names the missing step"),
    8: ("protective stop in motion", "FAULT, targets dropped; cleared by token, 5 s later at the earliest; no motion"),
    9: ("safeguard, reduced mode, violation, fault", "codes of their own; a safeguard holds, the others latch"),
    10: ("emergency stop", "ESTOP, every command refused; only a person, connecting and arming lead out"),
    11: ("target out of reach; the controller finds no way", "refused before it is sent; FAULT `program_stopped`"),
    12: ("the controller's clock stands still", "hold after 50 ms, FAULT after 200 ms"),
    13: ("a jump, NaN, no rotation, an old or future target", "refused by name; motion goes on"),
    14: ("targets beyond a wall, into a keep-out, behind it", "moved to the wall or refused; measured within 2 mm"),
    15: ("random targets", "setpoints on the wire inside the limits and 1 %"),
    16: ("two writers, another process, stop() in a wait", "refused; stop() counts within a cycle"),
    17: ("late cycles, all cores burning", "a warning, half speed, hold at 200 ms; punctual under load"),
    18: ("the wall clock is set an hour on and back", "nothing"),
    19: ("lost and garbled packets, a dead servo", "asked again; FAULT that names the servo, the others hold"),
    20: ("a servo is overloaded, too hot, short of voltage", "less torque, hold, FAULT; the arm does not drop"),
    21: ("serial cable out, another arm on it", "FAULT; identity is checked before it is used again"),
    22: ("gripper: not active, fault, jammed, object lost, silent", "a typed result; the arm holds, its loop goes on"),
    23: ("camera pulled or hung in motion", "image refused, arm holds, the same camera comes back by itself"),
    24: ("no camera, another serial, no library", "an error with the remedy at once"),
    25: ("duplicated or skewed images, another clock", "left out and counted; no image counts any more"),
    26: ("black, frozen, without depth, other intrinsics", "an alarm, and no image counts"),
    27: ("a consumer keeps a hundred images", "the stream goes on"),
    28: ("disk full, recordings cut off or at their end", "errors of their own; nothing plays twice"),
    29: ("xArm: error 31, mode left, replies stall", "FAULT; hold; recovery in the controller's order, by token"),
    30: (
        "deadman released, silent, chattering, stuck, held when arming",
        "hold; pressed anew; disarmed after a minute",
    ),
    31: ("the policy hangs; chunks late and out of order", "the old tail ends, then hold; older chunks are dropped"),
    32: ("an hour of 4, 12, 19 and 23 at random, at 125 Hz", "memory flat, no exception, each fault told once"),
}


def main() -> int:
    """Run, collect, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--soak", type=Path, default=ROOT / "runs" / "soak.json", help="result of benchmarks/soak.py")
    parser.add_argument("--json", type=Path, help="file for everything that was measured")
    parser.add_argument("--again", type=Path, help="such a file of an earlier run: only write the table")
    parser.add_argument("--ahead", action="store_true", help="run ahead of other programs")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "faults.md")
    options = parser.parse_args()
    document = json.loads(options.again.read_text()) if options.again else run(ahead=options.ahead)
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    rows, failed = document["rows"], document["failed"]
    soak = judge_again(json.loads(options.soak.read_text())) if options.soak.exists() else None
    options.out.write_text(page(document, soak))
    missing = [number for number in range(1, 32) if not any(row["number"] == number for row in rows)]
    print(f"{options.out}: {len(rows)} measured, {sum(not row['kept'] for row in rows)} promises not kept, ", end="")
    print(f"faults without a measurement: {missing or 'none'}")
    return 1 if failed or missing else 0


def run(*, ahead: bool) -> dict[str, Any]:
    """Run the tests; return what failed, and what was measured when and where."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "reactions.jsonl"
        environment = {**os.environ, "FAULT_REACTIONS": str(path), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "pytest", "-q", str(TESTS), "-m", "not soak", "-p", "no:cacheprovider"]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, preexec_fn=get_ahead if ahead else None
        )
        print(done.stdout[-3000:])
        failed = "\n".join(line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR", "SKIPPED")))
        return {
            "benchmark": "fault_table",
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": commit(),
            "cores": os.cpu_count(),
            "load": os.getloadavg()[1],
            "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
            "ahead": ahead,
            "failed": failed,
            "rows": [json.loads(line) for line in path.read_text().splitlines()],
        }


def get_ahead() -> None:
    """Ask for the lowest real-time priority, for this process and those it starts."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except OSError:
        print("Not allowed to run ahead of others: measured beside them.", file=sys.stderr)


def page(document: dict[str, Any], soak: dict[str, Any] | None) -> str:
    """Return the document."""
    rows, failed, how = document["rows"], document["failed"], " --ahead" if document["ahead"] else ""
    lines = [
        "# What happens when things break",
        "",
        "Every fault below is made on purpose, against the emulated controllers, servos and cameras of",
        "`robot_io.loopback`, with the vendors' own clients in between, and its reaction is measured. **No robot was",
        "involved**: what a real controller, cable or brake adds is not in these figures.",
        "",
        f"Measured on {document['when'][:10]}, commit `{document['commit']}`, {document['cores']} cores shared with",
        f"other work (load {document['load']:.0f}), {document['system']}, by",
        f"`python benchmarks/fault_table.py{how}`.",
        "A promise is what a machine that has nothing else to do keeps; a distance is a bound in any case.",
        "",
        "| | Fault | Expected | Measured | Promise | Kept |",
        "|---|---|---|---|---|---|",
    ]
    for number in range(1, 33):
        fault, expected = FAULTS[number]
        mine = [row for row in rows if row["number"] == number]
        if number == 32:
            mine = [] if soak is None else soak_rows(soak)
        if not mine:
            lines.append(f"| {number} | {fault} | {expected} | not measured in this run | | |")
        for place, row in enumerate(mine):
            head = f"| {number} | {fault} | {expected} |" if place == 0 else "| | | |"
            promise = "" if row["promised"] is None else f"{amount(row['promised'], row['unit'])}"
            kept = "" if row["promised"] is None else ("yes" if row["kept"] else "**no**")
            lines.append(f"{head} {row['what']}: {amount(row['measured'], row['unit'])} | {promise} | {kept} |")
    if failed:
        lines += ["", "Tests that failed or were left out in this run:", "", "```text", failed, "```"]
    return "\n".join([*lines, *soak_text(soak), ""])


def amount(value: float, unit: str) -> str:
    """Return a figure with as many digits as it deserves."""
    digits = 0 if unit == "ms" and value >= 10 else 2 if unit == "of limit" else 1
    text = f"{value:.{digits}f}"
    return f"{text.removesuffix('.0')} {unit}"


def soak_rows(soak: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what the soak found, as rows of the table."""
    made = soak["injections"]
    worst = max((abs(row["growth"]) for row in soak["memory"] if row["flat"] is not None), default=0.0) * 100
    told, back = (sum(not one[key] for one in made) for key in ("told_once", "recovered"))
    return [
        _row("memory, largest change of any process", worst, 5.0, "%"),
        _row("exceptions", len(soak["exceptions"]), 0.0, "found"),
        _row(f"faults not told exactly once, of {len(made)}", told, 0.0, "faults"),
        _row(f"faults not overcome, of {len(made)}", back, 0.0, "faults"),
    ]


def _row(what: str, measured: float, promised: float, unit: str) -> dict[str, Any]:
    return {"what": what, "measured": measured, "promised": promised, "unit": unit, "kept": measured <= promised}


def soak_text(soak: dict[str, Any] | None) -> list[str]:
    """Return the soak in words."""
    lines = ["", "## The hour of soak", ""]
    if soak is None:
        return [*lines, "Not run yet: `python benchmarks/soak.py --minutes 60 --json runs/soak.json`."]
    made = soak["injections"]
    lines += [
        f"`python benchmarks/soak.py --minutes {soak['minutes']:g}`, {soak['when'][:10]}, commit",
        f"`{soak['commit']}`, load {soak['load_average_15min']:.0f} on {soak['cores']} cores.",
        "A UR5e, an SO-101 and a camera at once, each",
        f"broken at random, mended and brought back by token: {len(made)} faults.",
        "",
        "| Process | Memory early | late | Change |",
        "|---|---|---|---|",
    ]
    for row in soak["memory"]:
        name, first, last = row["process"], row["first_mib"], row["last_mib"]
        lines.append(f"| {name} | {first:.1f} MiB | {last:.1f} MiB | {row['growth']:+.1%} |")
    lines += ["", "| Fault | Times | Told once | Median reaction | Longest |", "|---|---|---|---|---|"]
    for what in sorted({(one["number"], _kind(one["what"])) for one in made}):
        these = [one for one in made if (one["number"], _kind(one["what"])) == what]
        took = sorted(one["reaction_ms"] for one in these if one["reaction_ms"] is not None and one["expected"])
        times = f"{took[len(took) // 2]:.0f} ms | {took[-1]:.0f} ms" if took else "none expected | "
        once = sum(one["told_once"] for one in these)
        other = sum(one["found"] == ["driver_died"] for one in these)
        crashed = f", of these {other} as `driver_died`" if other else ""
        lines.append(f"| {what[0]}: {what[1]} | {len(these)} | {once}{crashed} | {times} |")
    lines += ["", "Reactions are as the calling thread saw them, which looks every 50 ms."]
    for name, late in soak["lateness"].items():
        lines.append(
            f"Lateness of the {name} loop at {late['rate_hz']:g} Hz ({late['scheduling']}): p50 {late['p50_ms']:.2f} "
            f"ms, p99 {late['p99_ms']:.2f} ms, latest {late['worst_ms']:.0f} ms."
        )
    count = len(soak["unprovoked"])
    lines.append(f"Faults that nobody made, from the machine's own hiccups: {count}" + (":" if count else "."))
    codes = sorted({(line["device"], line["code"]) for line in soak["unprovoked"]})
    lines += [
        f"- {device} `{code}`: {sum((one['device'], one['code']) == (device, code) for one in soak['unprovoked'])}"
        for device, code in codes
    ]
    return lines


def _kind(what: str) -> str:
    return "a servo dead" if what.startswith("servo ") else what


def commit() -> str:
    """Return the commit that is measured, marked when files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
