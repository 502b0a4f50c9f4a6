from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from cascade.contracts import Limits
from robot_io.process.arm_process import ArmProcess
from robot_io.process.settings import ProcessSettings


@pytest.fixture(scope="session")
def make_limits() -> Callable[..., Limits]:
    def make(**changes: Any) -> Limits:
        values: dict[str, Any] = {
            "workspace_m": np.array([[0.0, -0.5, 0.0], [0.8, 0.5, 0.8]]),
            "max_speed_m_s": 0.25,
            "max_acceleration_m_s2": 1.0,
            "max_jerk_m_s3": 10.0,
            "max_step_m": 0.3,
            "max_rotation_rad": 0.3,
            "tracking_error_s": 0.3,
        }
        return Limits(**{**values, **changes})

    return make


@pytest.fixture
def make_arm(make_limits: Callable[..., Limits]) -> Iterator[Callable[..., ArmProcess]]:
    made: list[ArmProcess] = []

    def make(options: dict[str, Any] | None = None, **settings: Any) -> ArmProcess:
        # Generous: the machine that runs the tests is busy with other things.
        chosen = ProcessSettings(**{"ttl_s": 0.2, "caller_s": 2.0, **settings})
        arm = ArmProcess("robot_io.arms.plugins:VIRTUAL", options or {}, make_limits(), settings=chosen)
        made.append(arm)
        return arm

    yield make
    for arm in made:
        arm.close()


@pytest.fixture
def arm(make_arm: Callable[..., ArmProcess]) -> ArmProcess:
    arm = make_arm()
    arm.connect()
    return arm
