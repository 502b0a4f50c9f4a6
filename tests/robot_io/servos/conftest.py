from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from robot_io.arms.feetech import FeetechDriver
from robot_io.arms.feetech_calibration_file import save_calibration
from robot_io.arms.feetech_config import FeetechConfig
from robot_io.loopback.servo_bus import SO101_SERVOS, ServoBus
from robot_io.loopback.servo_bus_serve import so101_calibration


@pytest.fixture
def calibration_file(tmp_path: Path) -> Path:
    path = tmp_path / "so101.yaml"
    save_calibration(path, so101_calibration())
    return path


@pytest.fixture
def bus() -> Iterator[ServoBus]:
    with ServoBus("feetech", SO101_SERVOS) as running:
        yield running


@pytest.fixture
def make_driver(bus: ServoBus, calibration_file: Path) -> Iterator[Callable[..., FeetechDriver]]:
    made: list[FeetechDriver] = []

    def make(**options: Any) -> FeetechDriver:
        # A generous budget: this machine may not run the other process for a tenth of a second and more.
        given = {"port": bus.address, "calibration": calibration_file, "bus_budget_s": 1.0, "rest_speed_rad_s": 1.0}
        driver = FeetechDriver(FeetechConfig(**{**given, **options}))
        made.append(driver)
        return driver

    yield make
    for driver in made:
        driver.close()


@pytest.fixture
def driver(make_driver: Callable[..., FeetechDriver]) -> FeetechDriver:
    connected = make_driver()
    connected.connect(20.0)
    return connected


@pytest.fixture
def armed(driver: FeetechDriver) -> FeetechDriver:
    driver.arm()
    return driver
