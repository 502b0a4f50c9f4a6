"""Emulated controllers for rigs without hardware: started with the rig, gone with it, deaf to the terminal's Ctrl-C."""

from __future__ import annotations

import functools
import multiprocessing
import random
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cascade.contracts import ConfigError, DeviceError
from cascade.contracts.errors import did_you_mean

START_S = 20.0


@dataclass(frozen=True, slots=True)
class Emulation:
    """An emulated controller by name.

    Attributes:
        placeholder: options of the arm that stand in for those that are only known once it runs.
        running: context manager that starts it and gives those options.
    """

    placeholder: Mapping[str, Any]
    running: Callable[[], Any]


def emulation_of(name: str) -> Emulation:
    """Return the emulated controller of that name; raises ConfigError naming the known ones."""
    if name in ("ur3e", "ur5e", "ur10e"):
        return Emulation({"host": "127.0.0.1", "gripper_port": 63352}, lambda: _ur(name))
    if name in ("xarm6", "xarm7"):
        return Emulation({"host": "127.0.0.1", "port": 502}, lambda: _child(name, _serve_xarm, name))
    if name == "fr3":
        return Emulation({"host": "127.0.0.1", "realtime": "ignore"}, lambda: _child(name, _serve_franka))
    if name == "so101":
        return Emulation({"port": "/dev/null", "calibration": str(_nominal_calibration())}, _so101)
    known = ("ur3e", "ur5e", "ur10e", "xarm6", "xarm7", "fr3", "so101")
    raise ConfigError(f"loopback {name!r}: no emulated controller has that name.", did_you_mean(name, known))


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Start processes that a Ctrl-C in the terminal does not reach; one that comes meanwhile is delivered later."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _ur(model: str) -> Iterator[Mapping[str, Any]]:
    from robot_io.loopback.ur import URLoopback
    from robot_io.process.models import arm_model

    # The emulated controller shares the machine with planner and simulation, so its own clock is generous.
    controller = URLoopback(model, watchdog_slack_s=0.5)
    with interrupts_held():
        controller.start()
    try:
        controller.place(arm_model(model).rest_q.tolist())
        with _child("robotiq", _serve_robotiq, controller.address) as gripper:
            yield {"host": controller.address, **gripper}
    finally:
        controller.close()


@contextmanager
def _so101() -> Iterator[Mapping[str, Any]]:
    from robot_io.loopback.servo_bus import SO101_SERVOS, ServoBus

    bus = ServoBus("feetech", SO101_SERVOS)
    with interrupts_held():
        bus.start()
    try:
        yield {"port": bus.address, "calibration": str(_nominal_calibration())}
    finally:
        bus.close()


@functools.cache
def _folder() -> TemporaryDirectory[str]:
    """A folder that is gone with this process."""
    return TemporaryDirectory(prefix="cascade-so101-")


@functools.cache
def _nominal_calibration() -> Path:
    """Write what a calibration of the emulated servos would find, and return its path."""
    from robot_io.arms.feetech_calibration_file import (
        GripperCalibration,
        JointCalibration,
        ServoCalibration,
        save_calibration,
    )
    from robot_io.loopback.servo_bus import SO101_SERVOS
    from robot_io.process.models import arm_model

    *joints, gripper = SO101_SERVOS
    found = {
        name: JointCalibration(
            id=servo.id,
            offset_ticks=0,
            zero_ticks=2048.0,
            lower_ticks=round(servo.lower_stop),
            upper_ticks=round(servo.upper_stop),
        )
        for name, servo in zip(arm_model("so101").joint_names, joints, strict=True)
    }
    fingers = GripperCalibration(
        id=gripper.id, offset_ticks=0, closed_ticks=round(gripper.lower_stop), open_ticks=round(gripper.upper_stop)
    )
    calibration = ServoCalibration(model="so101", date=datetime.now(UTC), joints=found, gripper=fingers)
    path = Path(_folder().name) / "so101.yaml"
    save_calibration(path, calibration)
    return path


@contextmanager
def _child(name: str, serve: Callable[..., None], *arguments: str) -> Iterator[Mapping[str, Any]]:
    """Run `serve(pipe, *arguments)` in a process that ends when the pipe does; gives the options it sends."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=serve, args=(theirs, *arguments), name=f"emulated-{name}", daemon=True)
    with interrupts_held():
        child.start()
    theirs.close()
    try:
        try:
            options = ours.recv() if ours.poll(START_S) else None
        except EOFError:
            options = None
        if options is None:
            raise DeviceError(f"loopback {name}: did not start within {START_S:.0f} s.", "Its message stands above.")
        yield options
    finally:
        ours.close()  # the child ends with it
        child.join(3.0)
        if child.is_alive():
            child.kill()
            child.join()


def _own_address() -> str:
    """Return a loopback address that nobody else has: ports are fixed, so two controllers need two addresses."""
    # Nothing secret about the number.
    return f"127.{random.randint(16, 254)}.{random.randint(0, 254)}.{random.randint(2, 254)}"  # noqa: S311


def _serve_franka(owner: Connection) -> None:
    """Emulate a Franka Research 3 until the owner lets go of the pipe, or dies."""
    from robot_io.loopback.franka import FrankaController

    with FrankaController(_own_address()) as controller:
        owner.send({"host": controller.address, "realtime": "ignore"})
        _wait(owner)


def _serve_xarm(owner: Connection, model: str) -> None:
    """Emulate an xArm until the owner lets go of the pipe, or dies."""
    from robot_io.loopback.xarm import XArmController

    with XArmController(model, _own_address()) as controller:
        owner.send({"host": controller.host, "port": controller.port})
        _wait(owner)


def _serve_robotiq(owner: Connection, host: str) -> None:
    """Emulate a Robotiq gripper until the owner lets go of the pipe, or dies."""
    from robot_io.loopback.robotiq import RobotiqLoopback

    with RobotiqLoopback(host) as gripper:
        owner.send({"gripper_port": gripper.port})
        _wait(owner)


def _wait(owner: Connection) -> None:
    with suppress(EOFError):
        owner.recv()
