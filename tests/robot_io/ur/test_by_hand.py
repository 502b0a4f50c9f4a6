"""`python -m robot_io.loopback`: what somebody at a terminal gets."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys

import pytest

from cascade.contracts.errors import DeviceError
from robot_io.loopback.__main__ import LOOPBACKS, main
from robot_io.loopback.ur import KNOBS, URLoopback


def test_an_unknown_name_lists_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ur99"]) == 2
    assert main([]) == 2
    said = capsys.readouterr().err
    assert all(name in said for name in LOOPBACKS)


def test_started_by_hand_it_says_how_to_connect_and_takes_knobs() -> None:
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "robot_io.loopback", "ur5e"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    said = ""
    while "Ctrl-C" not in said:
        said += process.stdout.readline()
    address, control = re.search(r"ur5e at ([\d.]+):", said), re.search(r"127\.0\.0\.1 (\d+)", said)
    assert address is not None
    assert control is not None
    with socket.create_connection(("127.0.0.1", int(control.group(1)))) as knobs, knobs.makefile("r") as answers:
        for line, key in (('{"do": "state"}', "result"), ('{"do": "explode"}', "error"), ("nonsense", "error")):
            knobs.sendall(line.encode() + b"\n")
            assert json.loads(answers.readline())[key]
    with socket.create_connection((address.group(1), 29999)) as dashboard:
        assert dashboard.recv(100).startswith(b"Connected")
    process.send_signal(signal.SIGINT)
    assert process.wait(5.0) == 0
    process.stdout.close()


def test_nonsense_on_its_ports_does_not_end_it() -> None:
    with URLoopback("ur3e") as loopback:
        for port in (29999, 30001, 30002, 30003, 30004):
            with socket.create_connection((loopback.address, port)) as connection:
                connection.sendall(bytes(range(256)) * 4 + b"\n")
        with socket.create_connection((loopback.address, 30004)) as connection:
            connection.sendall(b"\x00\x04O\x00")  # too short for a frequency
            connection.settimeout(2.0)
            assert connection.recv(10) == b""
        assert loopback.state()["runtime_state"] == 1


def test_its_address_cannot_be_taken_twice() -> None:
    with URLoopback("ur5e") as loopback, pytest.raises(DeviceError, match="ended at once"):
        URLoopback("ur5e", address=loopback.address).start()


def test_a_loopback_that_is_not_started_has_no_knobs_and_no_others_than_its_own() -> None:
    loopback = URLoopback("ur5e")
    with pytest.raises(DeviceError, match="Call start"):
        loopback.cut()
    with pytest.raises(AttributeError):
        loopback.explode()
    assert "cut" in KNOBS
    loopback.close()


@pytest.mark.parametrize("gone", [False, True])
def test_it_ends_with_whoever_started_it(gone: bool) -> None:
    command = [sys.executable, "-m", "robot_io.loopback", "ur5e", "--json", "{}"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()
    if gone:
        process.stdin.close()
    else:
        process.terminate()
        process.stdin.close()
    assert process.wait(5.0) in (0, -signal.SIGTERM)
    process.stdout.close()
