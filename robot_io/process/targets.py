"""Whether a target may be followed: its form, age, distance, place, path, and whether the arm gets there."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import AckKind, CommandAck, ConfigError, Limits
from cascade.contracts.limits import HARD_CAPS
from robot_io.process.kinematics import SIGMA_MIN, Kinematics
from robot_io.process.poses import matrix_of
from robot_io.process.region import Region, Vector

Floats = NDArray[np.float64]
_UNIT = 1e-3  # how far from 1 the norm of a quaternion may be
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetRules:
    """How strict the checks are.

    Attributes:
        clamp: move a target outside the workspace to the nearest place inside, instead of refusing it.
        inset_m: how far from the wall a moved target is put.
        max_age_s: how old the observation behind a target may be; max_future_s: how far in the future it may be.
        sigma_min: smallest singular value of the Jacobian at the target, for arms with a model.
    """

    clamp: bool = True
    inset_m: float = 0.001
    max_age_s: float = 1.0
    max_future_s: float = 0.05
    sigma_min: float = SIGMA_MIN


class Refusals:
    """Counts refused targets: `limit` of them within `window_s` mean that whatever sends them is out of order."""

    def __init__(self, limit: int = 3, window_s: float = 1.0) -> None:
        self._window_s = window_s
        self._times: deque[float] = deque(maxlen=limit)

    def refused(self, now_s: float) -> bool:
        """Note one refusal; return whether the limit is reached (raise the fault `bad_targets`)."""
        self._times.append(now_s)
        return len(self._times) == self._times.maxlen and now_s - self._times[0] <= self._window_s

    def forget(self) -> None:
        """Begin anew, as after a fault was cleared."""
        self._times.clear()


class TargetChecks:
    """The checks of one rig, with what they need computed once.

    Args:
        limits: of the rig; rules: how strict; kinematics: of the arm, or None where it has no model.
    """

    def __init__(self, limits: Limits, rules: TargetRules | None = None, kinematics: Kinematics | None = None) -> None:
        self._limits, self._rules, self._kinematics = limits, rules or TargetRules(), kinematics
        self._region = Region(limits)

    def __call__(
        self,
        target: Floats,
        gripper: float | None,
        observed_s: float,
        now_s: float,
        last_target: Floats,
        q: Floats | None = None,
    ) -> CommandAck:
        """Check one target; see `check_target`. `q` (J,): where the arm is, to check its reach from there."""
        refusal = _form(target, gripper) or self._age(observed_s, now_s)
        if refusal is not None:
            return refusal
        target = np.array(target, dtype=np.float64)
        target[3:] /= np.linalg.norm(target[3:])
        refusal = self._step(target, last_target)
        if refusal is not None:
            return refusal
        clamped = self._place(target)
        if clamped is None:
            return _rejected("workspace", f"{_where(target)} is outside the workspace.")
        refusal = self._path(target, last_target) or self._reach(target, q)
        if refusal is not None:
            return refusal
        if clamped:
            return CommandAck(
                kind=AckKind.CLAMPED, code="workspace", message=f"Moved to the wall, {_where(target)}.", target=target
            )
        return CommandAck(kind=AckKind.ACCEPTED, target=target)

    def _age(self, observed_s: float, now_s: float) -> CommandAck | None:
        age = now_s - observed_s
        if not math.isfinite(age):
            return _rejected("nan", "The time of observation is not a number.")
        if age > self._rules.max_age_s:
            return _rejected(
                "stale", f"What it is based on was seen {age:.2f} s ago, allowed {self._rules.max_age_s} s."
            )
        if age < -self._rules.max_future_s:
            return _rejected("future", f"What it is based on lies {-age:.2f} s in the future: the clocks differ.")
        return None

    def _step(self, target: Floats, last: Floats) -> CommandAck | None:
        limits = self._limits
        step = math.dist(target[:3].tolist(), last[:3].tolist())
        if step > limits.max_step_m + _ROUNDING:
            return _rejected(
                "jump", f"{step * 1e3:.0f} mm from the last target, allowed {limits.max_step_m * 1e3:.0f}."
            )
        cosine = abs(float(target[3:] @ last[3:])) / float(np.linalg.norm(last[3:]))
        turn = 2 * math.acos(min(cosine, 1.0))
        if turn > limits.max_rotation_rad + 1e-6:
            return _rejected("turn", f"{turn:.2f} rad from the last target, allowed {limits.max_rotation_rad:.2f}.")
        return None

    def _place(self, target: Floats) -> bool | None:
        """Whether the position was moved (in place); None: it is outside and must not be."""
        p = _point(target)
        if self._region.inside(p):
            return False
        if not self._rules.clamp:
            return None
        target[:3] = self._region.clamped(p, self._rules.inset_m)
        return True

    def _path(self, target: Floats, last: Floats) -> CommandAck | None:
        if not self._region.keep_outs:
            return None
        p = _point(target)
        if self._region.in_keep_out(p):
            return _rejected("keep_out", f"{_where(target)} is inside a keep-out.")
        if not self._region.clear(_point(last), p):
            return _rejected("path", f"The way to {_where(target)} leads through a keep-out.")
        return None

    def _reach(self, target: Floats, q: Floats | None) -> CommandAck | None:
        if self._kinematics is None or q is None:
            return None
        found = self._kinematics.reachable(matrix_of(target), q, self._limits.joints, restarts=0)
        if found is None:
            return _rejected("unreachable", f"The arm does not get to {_where(target)} from where it is.")
        sigma = self._kinematics.sigma
        if sigma < self._rules.sigma_min:
            return _rejected("singular", f"The arm is nearly singular at {_where(target)} ({sigma:.3f}).")
        return None


def check_target(
    target: Floats,
    gripper: float | None,
    observed_s: float,
    now_s: float,
    last_target: Floats,
    limits: Limits,
    rules: TargetRules | None = None,
    *,
    kinematics: Kinematics | None = None,
    q: Floats | None = None,
) -> CommandAck:
    """Say what becomes of one target; nothing is raised, whatever it contains.

    Args:
        target: (7,) xyz [m] + quaternion wxyz of the end effector in the base frame.
        gripper: opening 0..1, or None to leave it.
        observed_s: when that was seen on which the target is based, monotonic [s].
        now_s: monotonic [s].
        last_target: (7,) last accepted target, or the measured pose: steps and paths are measured from there.
        limits: of the rig.
        rules: how strict; None: the defaults.
        kinematics: the arm's model, to check that it gets there, or None.
        q: (J,) where it is [rad], or None.

    Returns:
        accepted, clamped (moved to the workspace's wall; `target` is what will be followed), or rejected with a code:
        'shape', 'nan', 'quaternion', 'gripper', 'stale', 'future', 'jump', 'turn', 'workspace', 'keep_out', 'path',
        'unreachable' or 'singular'.
    """
    return TargetChecks(limits, rules, kinematics)(target, gripper, observed_s, now_s, last_target, q)


def _form(target: Floats, gripper: float | None) -> CommandAck | None:
    try:
        values = np.asarray(target, dtype=np.float64)
    except (TypeError, ValueError):
        return _rejected("shape", "Expected 7 numbers.")
    if values.shape != (7,):
        return _rejected("shape", f"Expected 7 numbers, found an array of shape {values.shape}.")
    if not np.isfinite(values).all():
        return _rejected("nan", "It contains a value that is not a finite number.")
    size = math.hypot(*values[3:].tolist())
    if abs(size - 1) > _UNIT:
        return _rejected("quaternion", f"Expected a unit quaternion, found one of length {size:.3f}.")
    if gripper is not None and not 0 <= gripper <= 1:
        return _rejected("gripper", f"Expected an opening of 0 to 1, found {gripper}.")
    return None


def _rejected(code: str, message: str) -> CommandAck:
    return CommandAck(kind=AckKind.REJECTED, code=code, message=message)


def _point(pose: Floats) -> Vector:
    x, y, z = pose[:3].tolist()
    return x, y, z


def _where(pose: Floats) -> str:
    return "({:.3f}, {:.3f}, {:.3f}) m".format(*pose[:3].tolist())


def capped(limits: Limits, *, simulated: bool = False) -> Limits:
    """Return the limits unchanged when a real arm may have them.

    Args:
        limits: of the rig.
        simulated: nothing real moves, so everything is allowed.

    Raises:
        ConfigError: a limit is above the built-in cap.
    """
    if not simulated:
        for name, cap in HARD_CAPS.items():
            if getattr(limits, name) > cap:
                raise ConfigError(
                    f"{name}: expected at most {cap:g} for a real arm, found {getattr(limits, name):g}.",
                    "Lower it in the rig's limits; this cap cannot be raised.",
                )
    return limits
