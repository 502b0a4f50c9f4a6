from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from robot_io.sim.plugins import SIM
from robot_io.sim.rig import SimRig

RIG_FILE = Path(__file__).parents[2] / "configs" / "rigs" / "sim.yaml"


def build_rig(**options: Any) -> SimRig:
    described = yaml.safe_load(RIG_FILE.read_text())
    config = SIM.config(name=described["name"], limits=described["limits"], **{**described["options"], **options})
    rig = SIM.build(config)
    assert isinstance(rig, SimRig)
    return rig


@pytest.fixture(scope="session")
def make_rig() -> Callable[..., SimRig]:
    return build_rig


@pytest.fixture(scope="module")
def rig() -> SimRig:
    return build_rig()


DEVICE_FOLDERS = ("cameras", "faults", "franka", "process", "rig", "servos", "ur", "xarm")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Emulated devices move in real time: where another program had the processor too long, a test gets another try."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and item.path.relative_to(here).parts[0] in DEVICE_FOLDERS:
            item.add_marker(pytest.mark.devices)
            item.add_marker(pytest.mark.flaky(reruns=2, reruns_delay=2))
