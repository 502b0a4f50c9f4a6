"""Our own RTDE client: what the safety bits mean, and that no peer makes it wait."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.contracts.driver import Safety
from cascade.contracts.errors import DeviceError
from robot_io.arms.rtde_monitor import RTDEMonitor, safety_of
from robot_io.loopback.ur import URLoopback


@pytest.mark.parametrize(
    ("bit", "safety"),
    [
        (0, Safety.NORMAL),
        (1, Safety.REDUCED),
        (2, Safety.PROTECTIVE_STOP),
        (4, Safety.SAFEGUARD_STOP),
        (5, Safety.ESTOP),
        (6, Safety.ESTOP),
        (7, Safety.ESTOP),
        (8, Safety.VIOLATION),
        (9, Safety.FAULT),
        (10, Safety.PROTECTIVE_STOP),
    ],
)
def test_every_safety_bit_has_its_meaning(bit: int, safety: Safety) -> None:
    assert safety_of(1 << bit) is safety


@given(bits=st.integers(0, 2**11 - 1))
def test_no_combination_with_a_stop_looks_normal(bits: int) -> None:
    stops = 0b111_1111_0100
    assert (safety_of(bits) in (Safety.NORMAL, Safety.REDUCED)) == (bits & stops & ~(1 << 3) == 0)


def test_an_emergency_stop_outranks_what_else_is_set() -> None:
    assert safety_of(1 << 7 | 1 << 2 | 1 << 4) is Safety.ESTOP


@pytest.fixture
def monitor(loopback: URLoopback) -> Iterator[RTDEMonitor]:
    made = RTDEMonitor(loopback.address)
    made.connect(2.0)
    yield made
    made.close()


def test_a_reader_that_was_held_up_reads_the_present(monitor: RTDEMonitor, loopback: URLoopback) -> None:
    first = monitor.read()
    time.sleep(0.5)  # far longer than the silence that counts as a lost link
    q = [0.1, -1.5, 1.5, -1.5, -1.5, 0.1]
    loopback.place(q)
    time.sleep(0.1)
    later = monitor.read()
    assert later.t_dev_s - first.t_dev_s > 0.4
    assert later.q.tolist() == q


def test_silence_is_an_error(monitor: RTDEMonitor, loopback: URLoopback) -> None:
    loopback.mute()
    time.sleep(0.1)
    monitor.read()  # what was on its way
    time.sleep(0.1)
    monitor.read()  # whatever held this reader up may have held the data up too

    def look_often() -> None:
        for _ in range(10):
            time.sleep(0.02)
            monitor.read()

    with pytest.raises(DeviceError, match="silent for"):
        look_often()


def test_a_closed_connection_is_an_error_at_once(
    monitor: RTDEMonitor, loopback: URLoopback, until: Callable[..., object]
) -> None:
    loopback.cut()

    def message() -> str:
        try:
            monitor.read()
        except DeviceError as error:
            return str(error)
        return ""

    assert "closed the connection" in str(until(message))
    with pytest.raises(DeviceError, match="not connected"):
        monitor.read()


def serve(answer: bytes) -> tuple[int, Callable[[], None]]:
    """A peer that answers everything with the same bytes."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                while connection.recv(4096):
                    connection.sendall(answer)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def close() -> None:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(2.0)

    return listener.getsockname()[1], close


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00\x00\x00\x00", b"\x00\x04V\x00"])
def test_a_peer_that_is_no_controller_is_refused_in_time(answer: bytes) -> None:
    port, close = serve(answer)
    monitor, begun = RTDEMonitor("127.0.0.1", port), time.monotonic()
    with pytest.raises(DeviceError, match="RTDE"):
        monitor.connect(0.5)
    assert time.monotonic() - begun < 2.0
    monitor.close()
    close()


def test_reading_without_connecting_is_an_error() -> None:
    with pytest.raises(DeviceError, match="Connect first"):
        RTDEMonitor("127.0.0.1").read()
