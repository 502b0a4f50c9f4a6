"""What is in the way is named with the step to take, within the time given."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from cascade.contracts.errors import DeviceError
from robot_io.arms.ur import URDriver
from robot_io.loopback.ur import URLoopback

MakeDriver = Callable[..., URDriver]


def refused(driver: URDriver, match: str) -> None:
    begun = time.monotonic()
    with pytest.raises(DeviceError, match=match):
        driver.connect(5.0)
    assert time.monotonic() - begun < 5.5


@pytest.mark.parametrize(("port", "name"), [(29999, "dashboard"), (30003, "script interface"), (30004, "RTDE")])
def test_a_closed_port_is_named(make_driver: MakeDriver, loopback: URLoopback, port: int, name: str) -> None:
    loopback.close_ports([port])
    refused(make_driver(), rf"{port} \({name}\).*Settings > Security > Services")


@pytest.mark.parametrize("port", [29999, 30004])
def test_a_port_that_accepts_and_stays_silent_ends_in_time(
    make_driver: MakeDriver, loopback: URLoopback, port: int
) -> None:
    loopback.half_open([port])
    refused(make_driver(), rf"{port}.*found silence.*half-open")


def test_local_control_is_named(make_driver: MakeDriver, loopback: URLoopback) -> None:
    loopback.local_mode()
    refused(make_driver(), "local control.*Remote Control")


def test_an_arm_without_power_is_named(make_driver: MakeDriver, loopback: URLoopback) -> None:
    loopback.power(False)
    refused(make_driver(), "robot mode 'power off'.*release the brakes")


@pytest.mark.parametrize(
    ("knob", "match"),
    [
        ("protective_stop", "found: protective stop.*unlock it at the pendant"),
        ("emergency_stop", "found: estop.*Release the emergency stop"),
        ("violation", "found: violation"),
        ("fault", "found: fault"),
    ],
)
def test_a_stop_is_named(make_driver: MakeDriver, loopback: URLoopback, knob: str, match: str) -> None:
    getattr(loopback, knob)()
    refused(make_driver(), match)


def test_another_model_than_the_rig_says_is_named(make_driver: MakeDriver) -> None:
    refused(make_driver(model="ur10e"), "expected a ur10e.*drives a UR5")


def test_a_host_that_is_none_is_named(make_driver: MakeDriver) -> None:
    refused(make_driver(host="127.0.0.1"), "29999.*closed")


def test_a_missing_package_names_the_extra(make_driver: MakeDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rtde_control", None)
    refused(make_driver(), r"cascade-wam\[ur\]")


@pytest.mark.parametrize(
    "wrong", [{"watchdog_hz": 10.0}, {"lookahead_s": 0.5}, {"gain": 50}, {"model": "ur99"}, {"colour": "blue"}]
)
def test_options_outside_their_range_are_refused(wrong: dict[str, Any]) -> None:
    from pydantic import ValidationError

    from robot_io.arms.ur_config import URConfig

    with pytest.raises(ValidationError):
        URConfig(host="10.0.0.1", **wrong)


def test_after_a_refusal_the_same_driver_connects(make_driver: MakeDriver, loopback: URLoopback) -> None:
    loopback.local_mode()
    driver = make_driver()
    refused(driver, "local control")
    loopback.local_mode(False)
    driver.connect(5.0)
    assert driver.read().q.shape == (6,)
