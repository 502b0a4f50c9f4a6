from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.contracts.errors import DeviceError
from robot_io.arms.feetech_bus import FeetechBus
from robot_io.loopback import servo_bus_dynamixel as dynamixel
from robot_io.loopback import servo_bus_feetech as feetech
from robot_io.loopback.servo_bus import KOCH_SERVOS, SO101_SERVOS, ServoBus, ServoBusControl

dxl = pytest.importorskip("dynamixel_sdk")
IDS = (1, 2, 3, 4, 5, 6)


@pytest.fixture
def koch() -> Iterator[ServoBus]:
    with ServoBus("dynamixel", KOCH_SERVOS) as running:
        yield running


@pytest.fixture
def so101() -> Iterator[ServoBus]:
    with ServoBus("feetech", SO101_SERVOS) as running:
        yield running


@pytest.fixture
def port(koch: ServoBus) -> Iterator[Any]:
    opened = dxl.PortHandler(koch.address)
    assert opened.openPort()
    yield opened
    opened.closePort()


def until_success(call: Any) -> Any:
    """The vendor's SDK waits 34 ms at most, which a busy machine may need for a reply."""
    for _ in range(40):
        answer = call()
        if (answer[1] if isinstance(answer, tuple) and len(answer) > 2 else answer) == dxl.COMM_SUCCESS:
            return answer
    raise AssertionError("the vendor's SDK got no reply")


def test_the_vendors_sdk_pings_every_servo(port: Any) -> None:
    packets = dxl.PacketHandler(2.0)
    models = [until_success(lambda i=i: packets.ping(port, i))[0] for i in IDS]
    assert models == [1060, 1060, 1200, 1200, 1200, 1200]


@pytest.mark.parametrize("fast", [False, True])
def test_the_vendors_sdk_writes_and_reads_in_groups(port: Any, koch: ServoBus, fast: bool) -> None:
    packets = dxl.PacketHandler(2.0)
    for servo in IDS:
        until_success(lambda servo=servo: (0, packets.write1ByteTxRx(port, servo, 64, 1)[0], 0))
    write = dxl.GroupSyncWrite(port, packets, 116, 4)
    for servo in IDS:
        write.addParam(servo, [(2000 + servo) & 255, (2000 + servo) >> 8, 0, 0])
    assert write.txPacket() == dxl.COMM_SUCCESS
    time.sleep(0.8)
    read = dxl.GroupSyncRead(port, packets, 120, 27)
    for servo in IDS:
        read.addParam(servo)
    until_success(read.fastSyncRead if fast else read.txRxPacket)
    assert [read.getData(servo, 132, 4) for servo in IDS] == [2000 + servo for servo in IDS]
    assert {(servo, goal) for _, servo, goal in koch.goals()} == {(servo, 2000 + servo) for servo in IDS}


def test_a_value_that_looks_like_a_header_passes_the_vendors_sdk(port: Any, koch: ServoBus) -> None:
    packets = dxl.PacketHandler(2.0)
    until_success(lambda: (0, packets.write4ByteTxRx(port, 2, 112, 0x00FDFFFF)[0], 0))
    assert koch.peek(2, 112, 4) == b"\xff\xff\xfd\x00"
    assert until_success(lambda: packets.read4ByteTxRx(port, 2, 112))[0] == 0x00FDFFFF


@given(data=st.binary(min_size=1, max_size=200))
def test_the_crc_is_the_vendors(data: bytes) -> None:
    assert dynamixel.crc16(data) == dxl.PacketHandler(2.0).updateCRC(0, list(data), len(data))


@given(noise=st.binary(max_size=60))
def test_noise_before_a_request_does_not_hide_it(noise: bytes) -> None:
    protocol, head = feetech.FeetechProtocol(), bytes([3, 4, feetech.READ, 56, 2])
    request = b"\xff\xff" + head + bytes([feetech.checksum(head)])
    buffer = bytearray(noise.replace(b"\xff", b"\x00") + request)
    assert [(r.target, r.parameters) for r in protocol.parse(buffer)] == [(3, bytes([56, 2]))]


def test_prepared_writes_happen_together_on_action(so101: ServoBus) -> None:
    bus = FeetechBus(so101.address, budget_s=1.0)
    bus.open()
    bus.reg_write(1, 42, b"\x10\x08")
    bus.reg_write(2, 42, b"\x20\x08")
    assert so101.goals() == []
    bus.action()
    bus.ping(1)
    assert [(servo, goal) for _, servo, goal in so101.goals()] == [(1, 0x810), (2, 0x820)]
    bus.close()


def test_permanent_registers_are_kept_only_while_unlocked(so101: ServoBus) -> None:
    bus = FeetechBus(so101.address, budget_s=1.0)
    bus.open()
    bus.write(1, 31, b"\x10\x00")
    assert bus.read(1, 31, 2).data == b"\x00\x00"
    bus.write(1, 55, b"\x00")
    bus.write(1, 31, b"\x10\x00")
    assert bus.read(1, 31, 2).data == b"\x10\x00"
    assert bus.read(1, 56, 2).data == (2048 - 16).to_bytes(2, "little")
    bus.close()


def test_another_process_sets_the_faults(so101: ServoBus) -> None:
    program = f"from robot_io.loopback.servo_bus import ServoBusControl as C; C({so101.control!r}).dead([2])"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    bus = FeetechBus(so101.address, budget_s=1.0)
    bus.open()
    answers, missing = bus.sync_read((1, 2, 3), 56, 2)
    assert set(answers) == {1, 3}
    assert missing == (2,)
    bus.close()


def test_an_unknown_order_is_an_error(so101: ServoBus) -> None:
    with pytest.raises(DeviceError, match="unknown order"):
        ServoBusControl(so101.control)._order("explode")


def test_the_process_ends_with_its_owner_and_leaves_nothing() -> None:
    bus = ServoBus("feetech", SO101_SERVOS).start()
    process = bus._process
    assert process is not None
    bus.close()
    bus.close()
    assert process.returncode == 0
    assert not os.path.exists(bus.address)
    assert not os.path.exists(os.path.dirname(bus.address))


def test_the_path_stays_the_same_over_a_replug(so101: ServoBus) -> None:
    so101.unplug()
    assert not os.path.exists(so101.address)
    so101.replug()
    assert os.path.exists(so101.address)
