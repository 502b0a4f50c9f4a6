"""What stands between a target and the device, put together for one arm: checks, limiter, kinematics."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import AckKind, CommandAck, Limits, PluginError, PluginSpec
from cascade.contracts.driver import ArmDriver, DriverInfo, Takes
from robot_io.process.channel import Command
from robot_io.process.goals import GoalLimiter
from robot_io.process.loop import SetpointLimiter
from robot_io.process.settings import ProcessSettings
from robot_io.process.targets import TargetChecks, TargetRules, capped

Floats = NDArray[np.float64]


def build_driver(target: str, options: Mapping[str, Any]) -> ArmDriver:
    """Build the driver of a plug-in ('module:attribute' of its PluginSpec); opens nothing.

    Raises:
        PluginError: it cannot be imported, or is no PluginSpec.
        pydantic.ValidationError: the options are not its own.
    """
    module, _, attribute = target.partition(":")
    try:
        spec = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise PluginError(
            f"arm driver {target!r}: cannot be imported ({error}).", "See `cascade plugins arm`."
        ) from error
    if not isinstance(spec, PluginSpec):
        raise PluginError(f"arm driver {target!r}: expected a PluginSpec, found {type(spec).__name__}.")
    driver: ArmDriver = spec.build(spec.config.model_validate(dict(options)))
    return driver


def allowed(limits: Limits, settings: ProcessSettings) -> Limits:
    """Return the limits when they are within the built-in caps; raises ConfigError."""
    return capped(limits, simulated=settings.simulated)


def kinematics_of(info: DriverInfo) -> Any:
    """Return the Kinematics of a device, or None when it has no model or needs none."""
    if info.kinematics is None or (info.takes is Takes.POSE and not info.needs_forward):
        return None
    from robot_io.process.kinematics import Kinematics

    return Kinematics(info.kinematics, info.T_flange_ee)


def limiter_of(info: DriverInfo, limits: Limits, kinematics: Any, period_s: float) -> SetpointLimiter:
    """Return the limiter for a device: jerk-limited setpoints, or goals where it plans its own way."""
    if info.plans_itself:
        return GoalLimiter(limits)
    from robot_io.process.limiter import Limiter

    return Limiter(limits, info, kinematics, period_s)


class Checks:
    """Target checks for commands: a single target against the last one, a schedule target by target.

    Args:
        limits, settings: of the arm; kinematics: its model, to check reach, or None.
    """

    def __init__(
        self,
        limits: Limits,
        settings: ProcessSettings,
        kinematics: Any = None,
        joints: Callable[[], Floats | None] = lambda: None,
    ) -> None:
        rules = TargetRules(
            clamp=settings.clamp,
            max_age_s=settings.observed_age_s,
            **({"inset_m": 0.0} if settings.simulated else {}),
        )
        self._check = TargetChecks(limits, rules, kinematics)
        self._joints = joints

    def __call__(self, command: Command, last: Floats, now_ns: int) -> CommandAck:
        """Return what becomes of a command; an accepted one carries its targets as they will be followed.

        Args:
            command: targets (H, 7) and openings (H,).
            last: (7,) last accepted target, or the measured pose.
            now_ns: monotonic time.
        """
        verdict = CommandAck(kind=AckKind.ACCEPTED)
        observed_s, now_s, q = command.observed_ns * 1e-9, now_ns * 1e-9, self._joints()
        followed = []
        for index, (value, gripper) in enumerate(zip(command.values, command.gripper.tolist(), strict=True)):
            ack = self._check(value, gripper, observed_s, now_s, last, q if index == 0 else None)
            if not ack.taken or ack.target is None:
                where = f"Target {index}: " if command.times_ns is not None else ""
                return replace(ack, message=where + ack.message)
            if ack.kind is AckKind.CLAMPED:
                verdict = ack
            last = ack.target
            followed.append(last)
        return replace(verdict, target=np.stack(followed))
