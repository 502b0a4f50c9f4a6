from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from robot_io.arms.ur import URDriver
from robot_io.arms.ur_config import URConfig
from robot_io.loopback.ur import URLoopback

# The machine that runs the tests is busier than a robot's controller and has no priorities to give.
PATIENCE = {"watchdog_slack_s": 1.0, "unlock_after_s": 0.3}


@pytest.fixture(scope="module")
def controller() -> Iterator[URLoopback]:
    with URLoopback("ur5e", **PATIENCE) as running:
        yield running


@pytest.fixture
def loopback(controller: URLoopback) -> URLoopback:
    controller.reset()
    return controller


@pytest.fixture
def make_driver(loopback: URLoopback) -> Iterator[Callable[..., URDriver]]:
    pytest.importorskip("rtde_control")
    made: list[URDriver] = []

    def make(**options: Any) -> URDriver:
        driver = URDriver(URConfig(**{"host": loopback.address, "silence_s": 0.5, **options}))
        made.append(driver)
        return driver

    yield make
    for driver in made:
        driver.close()


@pytest.fixture
def armed(make_driver: Callable[..., URDriver]) -> URDriver:
    driver = make_driver()
    driver.connect(5.0)
    driver.arm()
    return driver


@pytest.fixture
def until() -> Callable[..., Any]:
    """`until(function)`: call it until what it returns is true, and return that; fails after `seconds`."""

    def wait(function: Callable[[], Any], seconds: float = 3.0) -> Any:
        deadline = time.monotonic() + seconds
        while not (result := function()):
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.004)
        return result

    return wait


@pytest.fixture
def pose_of() -> Callable[[np.ndarray], np.ndarray]:
    """(7,) xyz and quaternion (wxyz) of a transform (4, 4)."""

    def convert(T: np.ndarray) -> np.ndarray:
        x, y, z, w = Rotation.from_matrix(T[:3, :3]).as_quat()
        return np.concatenate([T[:3, 3], [w, x, y, z]])

    return convert
