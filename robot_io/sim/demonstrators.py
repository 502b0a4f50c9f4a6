"""Demonstrators: Meta-World's scripted experts."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import DataError, DemoStep, IncompatibleError, Rig
from robot_io.sim.arm import GAIN, quaternion_of, rotation_of
from robot_io.sim.config import ExpertConfig
from robot_io.sim.rig import SimRig
from robot_io.sim.world import HORIZON

Floats = NDArray[np.float64]


def simulated(rig: Rig, every: int) -> SimRig:
    """Return `rig` when it is the simulated one.

    Raises:
        IncompatibleError: it is another rig.
        DataError: `every` is not positive.
    """
    if every < 1:
        raise DataError(f"demonstrate: expected every >= 1, found {every}.")
    if not isinstance(rig, SimRig):
        raise IncompatibleError(
            f"demonstrator: expected the simulated rig, found {rig.name!r}.", "Run it with the rig 'sim'."
        )
    return rig


def act(rig: SimRig, target_m: Floats, opening: float, *, look: bool) -> DemoStep:
    """Take one control step towards a target and return what happened; `look` asks for images before it."""
    observation = rig.observe() if look else None
    state = observation.arm if observation is not None else rig.arm.read()
    held = quaternion_of(rotation_of(rig.world.held_quaternion))  # in contact the hand itself tilts away from it
    asked = np.concatenate([target_m, held, [opening]])
    sent = rig.arm.send(asked[:7], opening)
    rig.clock.tick()
    return DemoStep(
        observation=observation,
        state=state,
        action_sent=np.append(sent, opening),
        action_asked=asked,
        success=rig.monitor.success,
        stamp_s=state.stamp_s,
    )


class ScriptedExpert:
    """Meta-World's own policy for a task, until the first success and some steps more.

    The policy reads the simulator's state; what it makes is data, never a part of a run.
    """

    def __init__(self, config: ExpertConfig) -> None:
        self._config = config

    @property
    def kind(self) -> str:
        """Return 'expert'."""
        return "expert"

    def demonstrate(self, rig: Rig, *, task: str, seed: int, every: int = 1) -> Iterator[DemoStep]:
        """Reset the rig to (task, seed) and solve the task; images on every `every`-th step."""
        sim = simulated(rig, every)
        sim.reset(task=task, seed=seed)
        policy = _policy(sim.world.task)
        noise = np.random.default_rng([seed, 7])
        left: int | None = None
        while sim.world.steps < HORIZON and (left is None or left > 0):
            with warnings.catch_warnings():  # some policies ask for more than full speed, and say so each time
                warnings.simplefilter("ignore")
                action = np.asarray(policy.get_action(sim.world.raw_observation.copy()), dtype=np.float64)
            action[:3] += self._config.noise * noise.standard_normal(3)
            # The arm multiplies by its gain and clips: the same action arrives in Meta-World. What was asked beyond
            # that is kept short of a metre, some policies ask for more.
            target = sim.world.T_base_ee[:3, 3] + np.clip(action[:3], -20.0, 20.0) / GAIN
            opening = float(np.clip((1.0 - action[3]) / 2.0, 0.0, 1.0))
            step = act(sim, target, opening, look=sim.world.steps % every == 0)
            yield step
            if left is not None:
                left -= 1
            elif step.success:
                left = self._config.extra_steps


def _policy(task: str) -> Any:
    from metaworld.policies import ENV_POLICY_MAP

    return ENV_POLICY_MAP[f"{task}-v3"]()
