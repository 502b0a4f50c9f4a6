"""`python -m robot_io.loopback so101` and `dynamixel`: a servo bus by hand, with all that its driver needs."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

from robot_io.arms.feetech_calibration_file import (
    GripperCalibration,
    JointCalibration,
    ServoCalibration,
    save_calibration,
)
from robot_io.loopback.servo_bus import KOCH_SERVOS, SO101_SERVOS, ServoBus
from robot_io.process.models import arm_model


def so101_calibration() -> ServoCalibration:
    """Return the calibration of the simulated SO-101: zero in the middle, ends at the stops."""
    servos = SO101_SERVOS
    joints = {
        name: JointCalibration(
            id=servo.id,
            offset_ticks=0,
            zero_ticks=2048,
            sign=1,
            lower_ticks=int(servo.lower_stop),
            upper_ticks=int(servo.upper_stop),
        )
        for name, servo in zip(arm_model("so101").joint_names, servos, strict=False)
    }
    fingers = servos[-1]
    gripper = GripperCalibration(
        id=fingers.id, offset_ticks=0, closed_ticks=int(fingers.lower_stop), open_ticks=int(fingers.upper_stop)
    )
    return ServoCalibration(model="so101", date=datetime.now(UTC), joints=joints, gripper=gripper)


def koch_options(port: str) -> dict[str, object]:
    """Return options of the `dynamixel` driver for the simulated Koch arm."""
    names = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll")
    models = {1060: "xl430-w250", 1200: "xl330-m288"}
    joints = [
        {"name": name, "id": servo.id, "model": models[servo.model], "lower_rad": -1.9, "upper_rad": 1.9}
        for name, servo in zip(names, KOCH_SERVOS, strict=False)
    ]
    gripper = {"id": 6, "model": "xl330-m288", "closed_ticks": 2000, "open_ticks": 2800}
    return {"port": port, "model": "koch", "joints": joints, "gripper": gripper}


def serve(name: str, arguments: list[str]) -> int:
    """Run one until Ctrl-C or SIGTERM, or, with --json, until standard input ends."""
    parser = argparse.ArgumentParser(prog=f"python -m robot_io.loopback {name}", description=__doc__)
    parser.add_argument("--link", type=Path, help="make this path a link to the port, for a rig's file to name")
    parser.add_argument("--calibration", type=Path, help="write the calibration of the simulated SO-101 here")
    parser.add_argument("--json", action="store_true", help="say where it is as JSON; end with standard input")
    chosen = parser.parse_args(arguments)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    bus = ServoBus("feetech", SO101_SERVOS) if name == "so101" else ServoBus("dynamixel", KOCH_SERVOS)
    with bus:
        if chosen.link is not None:
            chosen.link.unlink(missing_ok=True)
            chosen.link.symlink_to(bus.address)
        port = str(chosen.link or bus.address)
        options: dict[str, object] = koch_options(port)
        if name == "so101":
            path = chosen.calibration or Path(bus.address).with_name("so101.yaml")
            save_calibration(path, so101_calibration())
            options = {"port": port, "calibration": str(path)}
        if chosen.json:
            print(json.dumps({"address": port, "control": bus.control, "options": options}), flush=True)  # noqa: T201
            sys.stdin.read()
        else:
            plugin = "feetech" if name == "so101" else "dynamixel"
            print(  # noqa: T201  (what the command is for)
                f"{name} at {port}.\n"
                f"In a rig: arm: {{plugin: {plugin}, options: {json.dumps(options)}}}\n"
                f'Faults: echo \'{{"do": "dead", "ids": [3]}}\' | nc -q1 -U {bus.control}\n'
                "Ctrl-C ends it.",
                flush=True,
            )
            with contextlib.suppress(KeyboardInterrupt):
                stop.wait()
        if chosen.link is not None:
            chosen.link.unlink(missing_ok=True)
    return 0
