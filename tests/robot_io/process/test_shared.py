from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

from hypothesis import given
from hypothesis import strategies as st

from robot_io.process.shared import Latest, Ring, SharedMemory, Words

WRITER = """
import sys, time
from robot_io.process.shared import Latest, SharedMemory
memory = SharedMemory({size}, int(sys.argv[1]))
slot = Latest(memory.view)
print("ready", flush=True)
number = 0
while True:
    number += 1
    slot.write(bytes([number % 256]) * {length})
    time.sleep(0.0005)
"""


def test_a_reader_sees_only_whole_values_while_the_writer_writes_and_after_it_was_killed() -> None:
    length = 20_000
    memory = SharedMemory(Latest.size(length))
    slot = Latest(memory.view)
    code = WRITER.format(size=Latest.size(length), length=length)
    with subprocess.Popen(
        [sys.executable, "-c", code, str(memory.fd)], pass_fds=[memory.fd], stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        seen = set()
        end_s = time.monotonic() + 1.0
        while time.monotonic() < end_s:
            _, value = slot.read()
            if value:
                assert value == value[:1] * length
                seen.add(value[0])
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    assert len(seen) > 3
    _, value = slot.read()
    assert value == value[:1] * length
    memory.close()


def test_a_writer_that_died_in_the_middle_leaves_the_last_good_value_and_a_new_one_goes_on() -> None:
    memory = SharedMemory(Latest.size(64))
    slot, reader = Latest(memory.view), Latest(memory.view)
    slot.write(b"good")
    assert reader.read()[1] == b"good"
    memory.view[:8].cast("Q")[0] |= 1  # as if killed after it had begun
    memory.view[16:20] = b"torn"
    began_s = time.monotonic()
    assert reader.read()[1] == b"good"
    assert time.monotonic() - began_s < 0.5
    Latest(memory.view).write(b"next")
    assert reader.read()[1] == b"next"


def test_a_reader_that_looks_at_any_moment_never_finds_nothing_once_there_was_something() -> None:
    length = 64
    memory = SharedMemory(Latest.size(length))
    slot, counter = Latest(memory.view), memory.view[:8].cast("Q")
    code = WRITER.format(size=Latest.size(length), length=length).replace("    time.sleep(0.0005)", "")
    with subprocess.Popen(
        [sys.executable, "-c", code, str(memory.fd)], pass_fds=[memory.fd], stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        while not slot.read()[1]:
            pass
        counters, empty, end_s = set(), 0, time.monotonic() + 10.0  # the writer may have to wait for its turn
        while len(counters) < 500 and time.monotonic() < end_s:
            counters.add(counter[0])
            empty += not slot.read()[1]
        child.kill()
    assert len(counters) > 10
    assert 0 not in counters  # zero says: nothing yet
    assert empty == 0
    counter.release()
    memory.close()


def test_a_reader_may_wait_for_a_writer_that_was_interrupted_in_the_middle() -> None:
    memory = SharedMemory(Latest.size(64))
    slot, reader = Latest(memory.view), Latest(memory.view)
    slot.write(b"idle")
    assert reader.read()[1] == b"idle"
    memory.view[:8].cast("Q")[0] |= 1
    later = threading.Timer(0.01, slot.write, (b"armed",))
    later.start()
    assert reader.read()[1] == b"idle"  # who may not wait gets the value before
    assert reader.read(wait_s=30.0)[1] == b"armed"
    later.join()


def test_a_value_whose_bytes_do_not_fit_its_checksum_is_not_taken() -> None:
    memory = SharedMemory(Latest.size(64))
    slot = Latest(memory.view)
    slot.write(b"right")
    memory.view[16:21] = b"wrong"
    assert slot.read()[1] == b""


@given(st.lists(st.binary(max_size=40), max_size=60))
def test_a_ring_gives_every_message_once_and_counts_what_was_missed(messages: list[bytes]) -> None:
    memory = SharedMemory(Ring.size(8, 64))
    ring, reader = Ring(memory.view, 8, 64), Ring(memory.view, 8, 64)
    for message in messages:
        ring.append(message)
    found, missed = reader.take()
    assert found == messages[-8:]
    assert missed == max(0, len(messages) - 8)
    assert reader.take() == ([], 0)


def test_words_are_seen_by_another_view() -> None:
    memory = SharedMemory(16)
    Words(memory.view, ("a", "b"))["b"] = -7
    assert Words(memory.view, ("a", "b"))["b"] == -7
