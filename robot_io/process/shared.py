"""Memory that two processes share: latest values both ways, an event ring, single words. Nothing here ever blocks.

The memory has no name: it is an anonymous file whose descriptor the child inherits. Whatever dies, nothing is left.
A latest value is a seqlock with a checksum: the writer makes the counter odd, writes, makes it even; a reader retries
while the counter is odd or changes, a bounded number of times. A writer that is killed in the middle leaves the counter
odd for ever; the reader then keeps the last good value, whose age tells. The counter is only ever written as one word:
`struct.pack_into` fills with zeros first, and a counter of zero says that nothing was written yet.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
import time
import zlib
from collections.abc import Sequence

_HEADER = struct.Struct("<II")  # length, checksum; behind the counter
_START = 8 + _HEADER.size
_RETRIES = 64
_PAUSE_S = 0.0002


class SharedMemory:
    """An anonymous block that a child process can map by its file descriptor."""

    def __init__(self, size: int, fd: int | None = None) -> None:
        self.fd = _anonymous_file(size) if fd is None else fd
        self._map = mmap.mmap(self.fd, size)
        self.view = memoryview(self._map)

    def close(self) -> None:
        """Unmap; the memory is gone when the last process has done so."""
        try:
            self.view.release()
            self._map.close()
        except (BufferError, ValueError):  # something still looks at it: the process's end unmaps it
            pass
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _anonymous_file(size: int) -> int:
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("cascade-arm")
    else:  # pragma: no cover  (not Linux)
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, size)
    return fd


class Latest:
    """The newest of a series of byte strings: one writer, any number of readers, no locks.

    Args:
        view: memory of `Latest.size(capacity)` bytes, aligned to 8.
    """

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._words = view[:8].cast("Q")
        self._payload = view[_START:]
        self._good: tuple[int, bytes] = (0, b"")

    @staticmethod
    def size(capacity: int) -> int:
        """Bytes of memory for values of up to `capacity` bytes."""
        return (_START + capacity + 7) // 8 * 8

    @property
    def counter(self) -> int:
        """Changes with every write; odd while one is under way. Cheap to look at before reading."""
        return int(self._words[0])

    def write(self, value: bytes) -> None:
        """Publish a value."""
        begun = self._words[0] | 1  # a writer before us may have died half-way: odd stays odd
        self._words[0] = begun
        _HEADER.pack_into(self._view, 8, len(value), zlib.crc32(value))
        self._payload[: len(value)] = value
        self._words[0] = begun + 1

    def read(self, wait_s: float = 0.0) -> tuple[int, bytes]:
        """Return (counter, newest complete value); the value before when the writer does not finish, b"" at first.

        Any number of threads may read at once. A writer that lost the processor in the middle is waited for `wait_s`.
        """
        found = self._try()
        if found is None and wait_s > 0:
            end_s = time.monotonic() + wait_s
            while found is None and time.monotonic() < end_s:
                time.sleep(_PAUSE_S)
                found = self._try()
        return self._good if found is None else found

    def _try(self) -> tuple[int, bytes] | None:
        """Return the newest value, or None while one is being written."""
        for _ in range(_RETRIES):
            good, before = self._good, int(self._words[0])
            if before == good[0]:
                return good
            if before & 1:
                continue
            length, checksum = _HEADER.unpack_from(self._view, 8)
            if length > len(self._payload):
                continue
            value = bytes(self._payload[:length])
            if self._words[0] == before and zlib.crc32(value) == checksum:
                self._good = good = (before, value)
                return good
        return None


class Ring:
    """The last `slots` messages of one writer; a reader that is too slow misses the oldest and is told how many."""

    def __init__(self, view: memoryview, slots: int, capacity: int) -> None:
        size = Latest.size(capacity)
        self._count = view[:8].cast("Q")
        self._slots = [Latest(view[8 + i * size : 8 + (i + 1) * size]) for i in range(slots)]
        self._capacity = capacity
        self._seen = 0

    @staticmethod
    def size(slots: int, capacity: int) -> int:
        """Bytes of memory for `slots` messages of up to `capacity` bytes."""
        return 8 + slots * Latest.size(capacity)

    def append(self, message: bytes) -> None:
        """Add a message, cut to the capacity."""
        number = self._count[0]
        payload = struct.pack("<Q", number) + message[: self._capacity - 8]
        self._slots[number % len(self._slots)].write(payload)
        self._count[0] = number + 1

    def take(self) -> tuple[list[bytes], int]:
        """Return the messages since the last call, oldest first, and how many were missed."""
        total, kept = int(self._count[0]), len(self._slots)
        first = max(self._seen, total - kept)
        missed, messages = first - self._seen, []
        for number in range(first, total):
            _, payload = self._slots[number % kept].read()
            if len(payload) >= 8 and struct.unpack_from("<Q", payload)[0] == number:
                messages.append(payload[8:])
            else:
                missed += 1
        self._seen = total
        return messages, missed


class Words:
    """Named 64-bit integers, each written by one side; a read or write of one is never torn."""

    def __init__(self, view: memoryview, names: Sequence[str]) -> None:
        self._words = view[: 8 * len(names)].cast("q")
        self._index = {name: index for index, name in enumerate(names)}

    def __getitem__(self, name: str) -> int:
        return int(self._words[self._index[name]])

    def __setitem__(self, name: str, value: int) -> None:
        self._words[self._index[name]] = value
