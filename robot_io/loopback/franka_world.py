"""What the loopback Franka knows of its arm: a chain, a description for the client, and joints that take torques."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from robot_io.process.models import ArmModel, arm_model

Floats = NDArray[np.float64]

STEP_S = 0.001
INERTIA_KG_M2 = np.array([1.0, 1.0, 0.8, 0.8, 0.3, 0.3, 0.2])  # round numbers, not an identification
FRICTION_NM_S = 0.5
_VELOCITY_MARGINS = ((6.0, 0.30), (2.585, 0.20), (3.5, 0.20), (4.0, 0.30), (17.0, 0.35), (5.5, 0.35), (17.0, 0.35))


class FrankaWorld:
    """Seven joints, either led exactly or pushed by torques against a fixed inertia; gravity is already compensated."""

    def __init__(self) -> None:
        self.model = arm_model("fr3")
        self.q = self.model.rest_q.copy()
        self.qd = np.zeros(7)
        self.qdd = np.zeros(7)

    def lead(self, q: Floats) -> None:
        """Follow a joint position for one step."""
        qd = (q - self.q) / STEP_S
        self.qdd = (qd - self.qd) / STEP_S
        self.q, self.qd = q.copy(), qd

    def push(self, torque_nm: Floats) -> None:
        """Take joint torques for one step."""
        self.qdd = (torque_nm - FRICTION_NM_S * self.qd) / INERTIA_KG_M2
        self.qd = self.qd + self.qdd * STEP_S
        self.q = self.q + self.qd * STEP_S

    def brake(self) -> None:
        """Stand still."""
        self.qd, self.qdd = np.zeros(7), np.zeros(7)

    def outside(self) -> bool:
        """Say whether a joint is beyond its range."""
        limits = self.model.joint_limits
        return bool(np.any(self.q < limits.lower_rad) or np.any(self.q > limits.upper_rad))

    def flange(self) -> Floats:
        """Return the (4, 4) flange pose in the base."""
        T = np.eye(4)
        for placement, angle in zip(self.model.placements, self.q, strict=True):
            c, s = math.cos(angle), math.sin(angle)
            turn = np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
            T = T @ placement @ turn
        pose: Floats = T @ self.model.T_last_flange
        return pose


def description(model: ArmModel) -> str:
    """Return the URDF that the controller hands to clients: placements and limits as in our model, masses made up."""
    limits = model.joint_limits
    parts = ['<?xml version="1.0"?><robot name="fr3">', _link(0)]
    for index, placement in enumerate(model.placements):
        deceleration, offset = _VELOCITY_MARGINS[index]
        parts.append(
            f'<joint name="joint{index + 1}" type="revolute">{_origin(placement)}'
            f'<parent link="link{index}"/><child link="link{index + 1}"/><axis xyz="0 0 1"/>'
            f'<limit effort="87" lower="{limits.lower_rad[index]}" upper="{limits.upper_rad[index]}"'
            f' velocity="{limits.max_speed_rad_s[index]}"/>'
            f'<position_based_velocity_limits deceleration_limit="{deceleration}" velocity_offset="{offset}"/></joint>'
        )
        parts.append(_link(index + 1))
    parts.append(
        f'<joint name="flange" type="fixed">{_origin(model.T_last_flange)}'
        '<parent link="link7"/><child link="link8"/></joint>'
        '<link name="link8"/></robot>'
    )
    return "".join(parts)


def _link(index: int) -> str:
    inertia = '<inertia ixx="0.01" iyy="0.01" izz="0.01" ixy="0" ixz="0" iyz="0"/>'
    return f'<link name="link{index}"><inertial><mass value="1.0"/>{inertia}</inertial></link>'


def _origin(T: Floats) -> str:
    roll = math.atan2(T[2, 1], T[2, 2])
    pitch = math.atan2(-T[2, 0], math.hypot(T[0, 0], T[1, 0]))
    yaw = math.atan2(T[1, 0], T[0, 0])
    x, y, z = T[:3, 3]
    return f'<origin xyz="{x} {y} {z}" rpy="{roll} {pitch} {yaw}"/>'
