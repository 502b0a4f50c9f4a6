"""`cascade calibrate servos`, with a person who presses Enter and moves the joints of an emulated arm."""

import json
import subprocess
import sys

from robot_io.loopback.servo_bus import ServoBus, ServoSpec

COMMAND = [sys.executable, "-c", "from cascade.cli.app import main; main()", "calibrate", "servos"]
LOWER = {1: 300, 2: 700, 3: 946, 4: 1000, 6: 1900}
UPPER = {1: 2800, 2: 2970, 3: 3150, 4: 3160, 6: 3150}
SERVOS = (
    *(ServoSpec(n, ticks=2000, lower_stop=LOWER[n], upper_stop=UPPER[n]) for n in (1, 2, 3, 4)),
    ServoSpec(5, ticks=2200, lower_stop=-9000, upper_stop=9000),
    ServoSpec(6, ticks=2000, lower_stop=LOWER[6], upper_stop=UPPER[6]),
)


def start(bus, *arguments):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*COMMAND, bus.address, *arguments, "--set", "bus_budget_s=1.0"], text=True, **pipes)


def until(stream, words):
    """Read lines until one holds the words."""
    for line in stream:
        if words in line:
            return
    raise AssertionError(f"ended before it said {words!r}")


def enter(process):
    process.stdin.write("\n")
    process.stdin.flush()


def to_all_ends(bus, stream):
    """Move each joint to both ends and back, waiting after each step until it has been seen."""
    for servo in LOWER:
        middle = (LOWER[servo] + UPPER[servo]) / 2
        for end in (LOWER[servo], UPPER[servo]):
            for share in (0.5, 1.0, 0.5, 0.0):
                bus.by_hand(servo, middle + share * (end - middle))
                until(stream, "<")
                until(stream, "<")


def test_a_person_calibrates_the_servos_at_the_terminal(tmp_path):
    with ServoBus("feetech", SERVOS) as bus:
        output = tmp_path / "so101.yaml"
        process = start(bus, "-o", str(output), "--json")
        until(process.stderr, "torque goes off")
        enter(process)
        until(process.stderr, "middle of its range")
        for servo in LOWER:
            bus.by_hand(servo, (LOWER[servo] + UPPER[servo]) / 2)
        enter(process)
        until(process.stderr, "to both ends")
        to_all_ends(bus, process.stderr)
        out, err = process.communicate("\n", timeout=60)
    assert process.returncode == 0, err
    told = json.loads(out)
    assert told["file"] == str(output)
    assert output.exists()
    assert told["shoulder_pan"] == "798 to 3298 ticks"  # 2500 ticks around the middle of the encoder


def test_nobody_at_the_terminal_is_a_refusal_and_leaves_no_file(tmp_path):
    with ServoBus("feetech", SERVOS) as bus:
        process = start(bus, "-o", str(tmp_path / "so101.yaml"))
        _, err = process.communicate("", timeout=60)
    assert process.returncode != 0
    assert "nobody is at the terminal" in err
    assert "Traceback" not in err
    assert not (tmp_path / "so101.yaml").exists()
