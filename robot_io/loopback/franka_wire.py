"""Franka Control Interface, version 10, as libfranka 0.18 to 0.21 speak it: TCP commands and UDP states.

Packed little-endian records; field order and sizes are those of the public headers of libfranka-common.
"""

from __future__ import annotations

import struct
from enum import IntEnum

import numpy as np

VERSION = 10
COMMAND_PORT = 1337
HEADER = struct.Struct("<III")  # command, id, size with the header
MOVE = struct.Struct("<II")  # controller mode, motion generator mode; deviations follow


class Command(IntEnum):
    """What a client asks over TCP."""

    CONNECT = 0
    MOVE = 1
    STOP_MOVE = 2
    SET_COLLISION_BEHAVIOR = 3
    SET_JOINT_IMPEDANCE = 4
    SET_CARTESIAN_IMPEDANCE = 5
    SET_GUIDING_MODE = 6
    SET_EE_TO_K = 7
    SET_NE_TO_EE = 8
    SET_LOAD = 9
    RECOVER = 10
    GET_MODEL = 11


class MoveStatus(IntEnum):
    """How a Move command goes on."""

    SUCCESS = 0
    STARTED = 1
    PREEMPTED = 2
    NOT_POSSIBLE = 5
    REFLEX = 8
    EMERGENCY = 9


class Generator(IntEnum):
    """Motion generator modes as the state tells them; a Move request counts from zero without IDLE."""

    IDLE = 0
    JOINT_POSITION = 1
    NONE = 5


class Controller(IntEnum):
    """Controller modes."""

    JOINT_IMPEDANCE = 0
    EXTERNAL = 2
    OTHER = 3


class Mode(IntEnum):
    """Robot modes."""

    IDLE = 1
    MOVE = 2
    REFLEX = 4
    USER_STOPPED = 5


ERRORS = {
    "joint_position_limits": 0,
    "self_collision": 2,
    "joint_reflex": 6,
    "cartesian_reflex": 7,
    "communication": 25,
}
"""Places of some reflexes in the flags of a state."""

STATE = np.dtype(
    [
        ("message_id", "<u8"),
        *((name, "<f4", 16) for name in ("O_T_EE", "O_T_EE_d", "F_T_EE", "EE_T_K", "F_T_NE", "NE_T_EE")),
        ("m_ee", "<f4"),
        ("I_ee", "<f4", 9),
        ("F_x_Cee", "<f4", 3),
        ("m_load", "<f4"),
        ("I_load", "<f4", 9),
        ("F_x_Cload", "<f4", 3),
        ("elbow", "<f4", 2),
        ("elbow_d", "<f4", 2),
        *((name, "<f4", 7) for name in ("tau_J", "tau_J_d", "dtau_J", "q", "q_d", "dq", "dq_d", "ddq_d")),
        ("joint_contact", "<f4", 7),
        ("cartesian_contact", "<f4", 6),
        ("joint_collision", "<f4", 7),
        ("cartesian_collision", "<f4", 6),
        ("tau_ext_hat_filtered", "<f4", 7),
        *((name, "<f4", 6) for name in ("O_F_ext_hat_K", "K_F_ext_hat_K", "O_dP_EE_d")),
        ("O_ddP_O", "<f4", 3),
        *((name, "<f4", 2) for name in ("elbow_c", "delbow_c", "ddelbow_c")),
        ("O_T_EE_c", "<f4", 16),
        ("O_dP_EE_c", "<f4", 6),
        ("O_ddP_EE_c", "<f4", 6),
        ("theta", "<f4", 7),
        ("dtheta", "<f4", 7),
        ("accelerometers", "<f4", 36),
        ("motion_generator_mode", "u1"),
        ("controller_mode", "u1"),
        ("errors", "u1", 41),
        ("reflex_reason", "u1", 41),
        ("robot_mode", "u1"),
        ("control_command_success_rate", "<f4"),
    ]
)
"""What the robot sends every millisecond; matrices by columns."""

COMMAND = np.dtype(
    [
        ("message_id", "<u8"),
        ("q_c", "<f8", 7),
        ("dq_c", "<f8", 7),
        ("O_T_EE_c", "<f8", 16),
        ("O_dP_EE_c", "<f8", 6),
        ("elbow_c", "<f8", 2),
        ("valid_elbow", "u1"),
        ("motion_finished", "u1"),
        ("tau_J_d", "<f8", 7),
        ("torque_finished", "u1"),
    ]
)
"""What a client answers each state with while it moves."""


def reply(command: int, command_id: int, payload: bytes) -> bytes:
    """Return the TCP message that answers a command."""
    return HEADER.pack(command, command_id, HEADER.size + len(payload)) + payload


def split(buffer: bytes) -> tuple[list[tuple[int, int, bytes]], bytes]:
    """Return the whole (command, id, payload) at the start of `buffer`, and the rest."""
    messages = []
    while len(buffer) >= HEADER.size:
        command, command_id, size = HEADER.unpack_from(buffer)
        if size < HEADER.size or len(buffer) < size:
            break
        messages.append((command, command_id, buffer[HEADER.size : size]))
        buffer = buffer[size:]
    return messages, buffer
