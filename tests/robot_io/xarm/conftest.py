import os
from collections.abc import Iterator

import pytest

pytest.importorskip("xarm.wrapper", reason="needs the xarm extra")

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
