"""Dynamixel's bus through the vendor's SDK, with bounded, blocking waits and errors that name the id.

The SDK measures its waits with the wall clock, spins while it waits, and its group reader loses every reply behind the
first that is missing. So its port gets a monotonic clock and a blocking read here, and replies are collected one by one
with its packet handler, whatever their order.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cascade.contracts.errors import DeviceError
from robot_io.arms.dynamixel_registers import little

_SUCCESS = 0
_RETRIES = 3
_ID, _ERROR, _DATA = 4, 8, 9
_FRAME_OVERHEAD = 11


class DynamixelError(DeviceError):
    """The bus failed.

    Attributes:
        ids: servos that did not answer; empty when the port itself is gone.
        code: of the fault it becomes, 'servo_silent' or 'link_lost'.
    """

    def __init__(self, problem: str, fix: str, ids: tuple[int, ...] = ()) -> None:
        super().__init__(problem, fix)
        self.ids = ids
        self.code = "servo_silent" if ids else "link_lost"


class DynamixelBus:
    """One serial port with servos on it; one thread speaks.

    Args:
        port: device path.
        baud_hz: bits per second.
        reply_s: silence after which a servo is asked again.
        budget_s: longest time of one call, retries included.
    """

    def __init__(self, port: str, *, baud_hz: int, reply_s: float = 0.01, budget_s: float = 0.1) -> None:
        self.port = port
        self.retries = 0
        self._baud_hz = baud_hz
        self._reply_s = reply_s
        self._budget_s = budget_s
        self._sdk: Any = None
        self._handle: Any = None
        self._packets: Any = None
        self._lost: tuple[type[BaseException], ...] = (OSError,)

    @property
    def is_open(self) -> bool:
        """Whether the port is open and was there when last used."""
        return self._handle is not None

    def open(self) -> None:
        """Open the port; raises DeviceError with the remedy."""
        try:
            import termios

            import dynamixel_sdk
            import serial
        except ImportError as error:
            raise DeviceError(
                "Dynamixel bus: expected the package 'dynamixel-sdk', found none.",
                'Install it: pip install "cascade-wam[dynamixel]".',
            ) from error
        self._sdk = dynamixel_sdk
        self._lost = (OSError, termios.error)  # a pulled cable shows as either; SerialException is an OSError
        handle = _blocking_port(dynamixel_sdk)(self.port)
        try:
            if not handle.setBaudRate(self._baud_hz):
                raise DeviceError(f"{self.port}: the SDK knows no rate of {self._baud_hz} bit/s.", "Use 1000000.")
            handle.ser.exclusive = True
        except (serial.SerialException, termios.error) as error:
            if handle.ser is not None:
                handle.closePort()
            raise _cannot_open(self.port, error) from error
        self._handle = handle
        self._packets = dynamixel_sdk.PacketHandler(2.0)

    def close(self) -> None:
        """Close the port; never raises."""
        handle, self._handle = self._handle, None
        if handle is not None:
            try:
                handle.closePort()
            except self._lost:
                return

    def models(self, ids: Iterable[int]) -> dict[int, int]:
        """Return the model numbers of the servos that answer."""
        found = {}
        for servo in ids:
            for wait_s in (self._reply_s, self._budget_s):
                model, result, _ = self._call("ping", servo, wait_s=wait_s)
                if result == _SUCCESS:
                    found[servo] = model
                    break
        return found

    def write(self, servo: int, address: int, size: int, value: int) -> None:
        """Write one register and wait for its status.

        Raises:
            DynamixelError: the servo is silent.
            DeviceError: it refuses the value.
        """
        for attempt in range(_RETRIES + 1):
            self.retries += attempt > 0
            wait_s = self._budget_s if attempt == _RETRIES else self._reply_s
            result, error = self._call("writeTxRx", servo, address, size, little(value, size), wait_s=wait_s)
            if result == _SUCCESS:
                break
        else:
            raise self.silent((servo,))
        if error & 0x7F:
            words = self._packets.getRxPacketError(error & 0x7F)
            raise DeviceError(
                f"servo id {servo} on {self.port}: refused {value} at address {address}: {words}",
                "Switch the arm off and on; check the servo with the maker's tool.",
            )

    def reboot(self, servo: int) -> None:
        """Restart a servo, which clears its hardware error; its torque is off afterwards."""
        self._call("reboot", servo, wait_s=self._budget_s)

    def sync_write(self, address: int, size: int, values: Mapping[int, int]) -> None:
        """Write the same register of several servos in one frame; nobody answers."""
        if not values:
            return
        group = self._sdk.GroupSyncWrite(self._open_port(), self._packets, address, size)
        for servo, value in values.items():
            group.addParam(servo, little(value, size))
        try:
            result = group.txPacket()
        except self._lost as error:
            raise self._gone(error) from error
        if result != _SUCCESS:
            raise self._gone(OSError(errno.EIO, self._packets.getTxRxResult(result)))

    def sync_read(
        self, ids: Sequence[int], address: int, size: int
    ) -> tuple[dict[int, tuple[int, bytes]], tuple[int, ...]]:
        """Read the same registers of several servos in one frame.

        Returns:
            (error byte, data) by id, and the ids that stayed silent through all retries.
        """
        answers: dict[int, tuple[int, bytes]] = {}
        deadline = time.monotonic() + self._budget_s
        for attempt in range(_RETRIES + 1):
            missing = [servo for servo in ids if servo not in answers]
            left = deadline - time.monotonic()
            if not missing or left <= 0:
                break
            self.retries += attempt > 0
            try:
                answers |= self._collect(missing, address, size, left if attempt == _RETRIES else self._reply_s)
            except self._lost as error:
                raise self._gone(error) from error
        return answers, tuple(servo for servo in ids if servo not in answers)

    def silent(self, ids: tuple[int, ...]) -> DynamixelError:
        """Return the error that names servos which do not answer."""
        which = f"servo id {ids[0]}" if len(ids) == 1 else f"servo ids {', '.join(map(str, ids))}"
        return DynamixelError(
            f"{which} on {self.port}: expected an answer, found none in {_RETRIES + 1} tries.",
            "Check the cable to that servo and its power.",
            ids,
        )

    def _collect(self, ids: list[int], address: int, size: int, wait_s: float) -> dict[int, tuple[int, bytes]]:
        port = self._open_port()
        answers: dict[int, tuple[int, bytes]] = {}
        result = self._packets.syncReadTx(port, address, size, ids, len(ids), False)
        if result != _SUCCESS:
            raise OSError(errno.EIO, self._packets.getTxRxResult(result))
        while len(answers) < len(ids):
            port.setPacketTimeoutMillis(wait_s * 1000.0)
            packet, result = self._packets.rxPacket(port, False)
            if not packet and result != _SUCCESS:
                break
            whole = result == _SUCCESS and len(packet) == size + _FRAME_OVERHEAD
            if whole and packet[_ID] in ids:
                answers[packet[_ID]] = (packet[_ERROR], bytes(packet[_DATA : _DATA + size]))
        return answers

    def _call(self, name: str, *arguments: Any, wait_s: float) -> Any:
        port = self._open_port()
        port.least_wait_ms = wait_s * 1000.0
        try:
            return getattr(self._packets, name)(port, *arguments)
        except self._lost as error:
            raise self._gone(error) from error

    def _open_port(self) -> Any:
        if self._handle is None:
            raise DynamixelError(f"{self.port}: the servo bus is not connected.", "Connect it again.")
        self._handle.is_using = False  # the SDK leaves this set when a call was cut short
        return self._handle

    def _gone(self, error: BaseException) -> DynamixelError:
        self.close()
        return DynamixelError(
            f"{self.port}: the servo bus is gone ({error}).", "Plug the cable in again, then connect again."
        )


def _blocking_port(sdk: Any) -> Any:
    """Return the SDK's port class with a monotonic clock, a read that sleeps, and loss that is an OSError."""

    class BlockingPort(sdk.PortHandler):  # type: ignore[misc]  # the SDK has no types
        least_wait_ms = 0.0

        def getCurrentTime(self) -> float:  # noqa: N802  (the SDK's names)
            return time.monotonic() * 1000.0

        def setPacketTimeout(self, packet_length: int) -> None:  # noqa: N802  (the SDK's names)
            super().setPacketTimeout(packet_length)
            self.packet_timeout = max(self.tx_time_per_byte * packet_length + 4.0, self.least_wait_ms)

        def readPort(self, length: int) -> list[int]:  # noqa: N802
            left_s = max(0.0, self.packet_timeout - self.getTimeSinceStart()) / 1000.0
            ready, _, _ = select.select([self.ser.fileno()], [], [], left_s)
            if not ready:
                return []
            received = os.read(self.ser.fileno(), length)
            if not received:
                raise OSError(errno.EIO, "the device is gone")
            return list(received)

        def writePort(self, packet: list[int]) -> int:  # noqa: N802
            with contextlib.suppress(BlockingIOError):  # the port is full: like a frame lost on the wire
                os.write(self.ser.fileno(), bytes(packet))
            return len(packet)

    return BlockingPort


def _cannot_open(port: str, error: Exception) -> DeviceError:
    number = getattr(error, "errno", None)
    if number == errno.ENOENT:
        return DeviceError(f"{port}: no such serial port.", "Plug the arm in, or name its port.")
    if number == errno.EACCES:
        return DeviceError(f"{port}: no permission.", "Add yourself to the group 'dialout' and log in again.")
    if number in (errno.EAGAIN, errno.EBUSY):
        return DeviceError(f"{port}: in use by another process.", "Stop the other program that drives this arm.")
    return DeviceError(f"{port}: cannot be opened ({error}).", "Check that it is the arm's serial port.")
