"""Meta-World as a world that an arm can act in: seeded layouts, 80 Hz steps, latched success."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import DataError
from robot_io.sim.starts import Starts, prepare, reached
from robot_io.sim.tasks import check_task

CONTROL_HZ = 80.0
HORIZON = 480  # Meta-World refuses to go on after 500 steps
MAX_STEPS = 500
TOOL_OFFSET_M = np.array([0.045, 0.0, 0.0])  # in the hand's frame: from the hand body to between the finger pads
ARM_JOINTS = tuple(f"right_j{i}" for i in range(7))
_KEPT_WORLDS = 12
_SEEN = (
    "qpos",
    "qvel",
    "act",
    "ctrl",
    "mocap_pos",
    "mocap_quat",
    "xpos",
    "xquat",
    "xmat",
    "xipos",
    "ximat",
    "geom_xpos",
    "geom_xmat",
    "site_xpos",
    "site_xmat",
    "cam_xpos",
    "cam_xmat",
    "light_xpos",
    "light_xdir",
    "subtree_com",
    "sensordata",
)
"""Arrays of mujoco.MjData from which a scene is drawn and read; poses as they are after a step, not computed anew."""

Floats = NDArray[np.float64]


class World:
    """The physics of one episode.

    The same (task, seed) always gives bit-identical layouts, whether or not the task was simulated before: what
    Meta-World writes into its model at a reset is undone before the next one. `starts` says where the hand begins.
    """

    def __init__(self, starts: Starts = "stock") -> None:
        self.starts: Starts = starts
        self.endless = False  # True: an episode may go on beyond Meta-World's 500 steps
        self._known: OrderedDict[str, tuple[Any, dict[str, NDArray[Any]]]] = OrderedDict()
        self._env: Any = None
        self._hand, self._claws, self._joints = 0, [0, 0], [0]
        self.task = ""
        self.seed = 0
        self.steps = 0
        self.success = False
        self.total_steps = 0
        self.raw_observation: Floats = np.zeros(39)

    @property
    def ready(self) -> bool:
        """Whether an episode has begun."""
        return self._env is not None

    @property
    def model(self) -> Any:
        """The mujoco.MjModel."""
        return self._checked().model

    @property
    def data(self) -> Any:
        """The mujoco.MjData."""
        return self._checked().data

    def _checked(self) -> Any:
        if self._env is None:
            raise DataError("sim: no episode has begun.", "Call rig.reset(task=..., seed=...) first.")
        return self._env

    def reset(self, task: str, seed: int) -> None:
        """Build the layout of (task, seed); raises ConfigError for an unknown task, DataError for a bad seed."""
        import mujoco

        task = check_task(task)
        if not 0 <= int(seed) < 2**32:
            raise DataError(f"seed: expected an integer in 0 .. 2^32 - 1, found {seed}.")
        if task not in self._known:
            self._known[task] = self._make(task)
            while len(self._known) > _KEPT_WORLDS:
                self._known.popitem(last=False)
        self._known.move_to_end(task)
        env, pristine = self._known[task]
        for name, value in pristine.items():
            getattr(env.model, name)[...] = value
        # Meta-World ignores reset(seed=...): this is the way to a layout that depends on the seed alone.
        env._freeze_rand_vec = False
        env.seeded_rand_vec = True
        env.seed(int(seed))
        prepare(env, task, int(seed), self.starts)
        self.raw_observation, _ = env.reset(seed=int(seed))
        # Meta-World moves bodies (a peg, a faucet) after its last step: without this the first image shows them where
        # they were in the layout before. Positions only, so that the physics goes on bit for bit as it would have.
        mujoco.mj_kinematics(env.model, env.data)
        self._env, self.task, self.seed = env, task, int(seed)
        model = env.model  # looking names up at every step costs more than the step's arithmetic
        self._hand, self._claws = model.body("hand").id, [model.body(n).id for n in ("rightclaw", "leftclaw")]
        self._joints = [int(model.joint(name).qposadr[0]) for name in ARM_JOINTS]
        self.steps, self.success = 0, False

    @staticmethod
    def _make(task: str) -> tuple[Any, dict[str, NDArray[Any]]]:
        from metaworld.env_dict import ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE

        env = ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE[f"{task}-v3-goal-observable"](seed=0)
        changed_by_resets = ("body_pos", "body_quat", "geom_pos", "geom_quat", "site_pos", "site_quat", "eq_data")
        return env, {name: getattr(env.model, name).copy() for name in changed_by_resets}

    def step(self, action: Floats) -> None:
        """Move on by one control period with a Meta-World action (4,): hand motion [cm], closing effort; -1 .. 1."""
        env = self._checked()
        if self.endless:
            env.curr_path_length = 0
        elif self.steps >= MAX_STEPS:
            return  # the episode is over; Meta-World would raise
        self.raw_observation, _, _, _, info = env.step(np.clip(action, -1.0, 1.0).astype(np.float64))
        self.success = self.success or reached(self.task, info, self.starts)
        self.steps += 1
        self.total_steps += 1

    @property
    def hand_position_m(self) -> Floats:
        """(3,) position of the hand body, which Meta-World's actions move."""
        return np.array(self.data.xpos[self._hand])

    @property
    def T_base_ee(self) -> Floats:  # noqa: N802
        """(4, 4) pose of the point between the finger pads, oriented as the hand."""
        data, T = self.data, np.eye(4)
        T[:3, :3] = data.xmat[self._hand].reshape(3, 3)
        T[:3, 3] = data.xpos[self._hand] + T[:3, :3] @ TOOL_OFFSET_M
        return T

    @property
    def held_quaternion(self) -> Floats:
        """(4,) orientation wxyz that Meta-World holds the hand to; in contact the hand itself tilts away from it."""
        return np.array(self.data.mocap_quat[0], dtype=np.float64)

    @property
    def opening(self) -> float:
        """Gripper opening 0..1: the distance of the fingers over 10 cm."""
        data = self.data
        right, left = self._claws
        gap = float(np.linalg.norm(data.xpos[right] - data.xpos[left]))
        return min(max(gap / 0.1, 0.0), 1.0)

    @property
    def joints_rad(self) -> Floats:
        """(7,) joint positions of the arm."""
        positions: Floats = self.data.qpos[self._joints]
        return positions

    def object_positions_m(self) -> Floats:
        """(n, 3) positions of the task's objects: for collecting play and for experts, never for an observation."""
        return np.array(self._checked()._get_pos_objects(), dtype=np.float64).reshape(-1, 3)

    def export(self) -> bytes:
        """Return what is to be seen of the world, for `adopt` in another process."""
        head = np.array([self.steps, self.success, self.seed], dtype=np.float64)
        parts = [head, self.raw_observation, *(getattr(self.data, name) for name in _SEEN)]
        return b"".join(np.ascontiguousarray(part, dtype=np.float64).tobytes() for part in parts)

    def adopt(self, exported: bytes) -> bool:
        """Look like the world that was exported; return False when that one is another layout (a late message)."""
        values = np.frombuffer(exported, dtype=np.float64)
        steps, success, seed = values[:3]
        if int(seed) != self.seed:
            return False
        start, data = 3 + len(self.raw_observation), self.data
        self.raw_observation = values[3:start].copy()
        for name in _SEEN:
            array = getattr(data, name)
            array[...] = values[start : start + array.size].reshape(array.shape)
            start += array.size
        self.total_steps += max(0, int(steps) - self.steps)
        self.steps, self.success = int(steps), bool(success)
        return True

    def state_digest(self) -> str:
        """Digest of the physical state, to compare layouts bit by bit."""
        data = self.data
        parts = (data.qpos, data.qvel, data.mocap_pos, data.xpos, self.raw_observation)
        return hashlib.sha256(b"".join(np.ascontiguousarray(p).tobytes() for p in parts)).hexdigest()
