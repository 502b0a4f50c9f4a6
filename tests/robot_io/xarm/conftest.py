import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

pytest.importorskip("xarm.wrapper", reason="needs the xarm extra")

from robot_io.arms.driver import Reading
from robot_io.arms.xarm import XArmConfig, XArmDriver
from robot_io.loopback.xarm import XArmController

_hosts = iter(range(10, 250))


@pytest.fixture
def host() -> str:
    """A loopback address of its own: the report ports cannot be moved."""
    pid = os.getpid()
    return f"127.{1 + pid // 250 % 250}.{1 + pid % 250}.{next(_hosts)}"


@pytest.fixture
def controller(host: str) -> Iterator[XArmController]:
    with XArmController("xarm6", host) as controller:
        yield controller


@contextmanager
def driving(controller: XArmController, **options: object) -> Iterator[XArmDriver]:
    config = XArmConfig(model=controller.model, host=controller.host, port=controller.port, **options)
    driver = XArmDriver(config)
    try:
        driver.connect(5.0)
        yield driver
    finally:
        driver.close()


def eventually(check: Callable[[], bool], within_s: float = 3.0) -> bool:
    deadline_s = time.monotonic() + within_s
    while time.monotonic() < deadline_s:
        if check():
            return True
        time.sleep(0.01)
    return check()


def stream(driver: XArmDriver, start: np.ndarray, end: np.ndarray, steps: int = 60, gripper: float | None = None) -> None:
    for share in np.linspace(0.0, 1.0, steps):
        driver.send(start + share * (end - start), gripper)
        time.sleep(0.01)


def fault_codes(reading: Reading) -> set[str]:
    return {fault.code for fault in reading.faults}
