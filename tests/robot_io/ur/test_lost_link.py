"""Lost links, in a process of its own: ur_rtde may crash the process it is in, and reconnects when it lives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robot_io.loopback.ur import URLoopback

pytest.importorskip("rtde_control")
STREAM = Path(__file__).parent / "stream.py"
Until = Callable[..., Any]


class Streaming:
    """A driver that streams in another process."""

    def __init__(self, address: str, silence_s: float, ending: str) -> None:
        read, write = os.pipe()
        command = [sys.executable, str(STREAM), address, str(silence_s), ending, str(write)]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, pass_fds=[write], **quiet)
        os.close(write)
        self._lines = os.fdopen(read)

    def next(self, key: str) -> dict[str, Any]:
        """Return the next line that has this key."""
        said: dict[str, Any] = {}
        for line in self._lines:
            said = json.loads(line)
            if key in said:
                return said
        raise AssertionError(f"it ended (code {self.process.wait()}) without saying {key!r}; last: {said}")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._lines.close()


@pytest.fixture
def stream(loopback: URLoopback) -> Iterator[Callable[..., Streaming]]:
    started: list[Streaming] = []

    def start(silence_s: float = 0.032, ending: str = "exit") -> Streaming:
        started.append(Streaming(loopback.address, silence_s, ending))
        started[-1].next("armed")
        started[-1].next("running")
        return started[-1]

    yield start
    for one in started:
        one.close()


def uploads(loopback: URLoopback) -> int:
    return sum(text == "program uploaded" for _, text in loopback.state()["events"])


@pytest.mark.parametrize("knob", ["cut", "mute"])
def test_a_lost_link_is_an_error_soon_and_the_arm_stays_stopped(
    loopback: URLoopback, stream: Callable[..., Streaming], until: Until, knob: str
) -> None:
    streaming = stream()
    begun = time.monotonic()
    getattr(loopback, knob)()
    lost = streaming.next("lost")
    print(f"{knob}: noticed after {(lost['lost'] - begun) * 1e3:.0f} ms: {lost['message']}")
    assert lost["lost"] - begun < 1.0
    assert streaming.next("closed_in")["closed_in"] < 1.0
    assert streaming.process.wait(3.0) == 0
    loopback.mute(False)
    until(lambda: loopback.state()["runtime_state"] == 1)
    until(lambda: np.allclose(loopback.state()["qd"], 0))
    where, sent = loopback.state()["pose"], len(loopback.setpoints())
    time.sleep(0.2)
    assert loopback.state()["pose"] == where
    assert len(loopback.setpoints()) == sent
    assert uploads(loopback) == 1


def test_even_if_the_process_lives_on_nothing_starts_the_program_again(
    loopback: URLoopback, stream: Callable[..., Streaming], until: Until
) -> None:
    streaming = stream(silence_s=0.5, ending="linger")
    loopback.cut()
    streaming.next("lost")
    until(lambda: loopback.state()["runtime_state"] == 1)
    streaming.process.wait(5.0)  # it may well have crashed: ur_rtde lost its link
    assert uploads(loopback) == 1
    assert loopback.state()["runtime_state"] == 1


def test_a_killed_process_stops_the_arm_by_the_watchdog(
    loopback: URLoopback, stream: Callable[..., Streaming], until: Until
) -> None:
    streaming = stream(silence_s=0.5)
    streaming.process.kill()
    until(lambda: [text for _, text in loopback.state()["events"]][-1] == "program ended: watchdog")
    until(lambda: np.allclose(loopback.state()["qd"], 0))


def test_a_frozen_clock_shows_as_readings_that_do_not_age(
    loopback: URLoopback, stream: Callable[..., Streaming]
) -> None:
    streaming = stream(silence_s=0.5)
    loopback.freeze_timestamp()
    streaming.next("stamps")
    streaming.next("stamps")
    frozen = streaming.next("stamps")["stamps"]
    assert streaming.next("stamps")["stamps"] == frozen
