"""Kinematics, RTDE sessions and programs of the emulated controller, without processes."""

from __future__ import annotations

import contextlib
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_io.arms.ur_pose import apart, flange_of, matrix_of, to_ur
from robot_io.loopback.ur_kinematics import Kinematics, rotation, rotation_vector, transform, ur_pose
from robot_io.loopback.ur_rtde_server import HEADER, Inputs, Outputs, Session
from robot_io.loopback.ur_script import DONE, READY, ControlProgram, Registers, register_offset, run_lines
from robot_io.loopback.ur_world import World
from robot_io.process.models import arm_model

angles = st.lists(st.floats(-3.1, 3.1), min_size=6, max_size=6).map(np.array)
vectors = st.lists(st.floats(-1.8, 1.8), min_size=3, max_size=3).map(np.array)


@pytest.mark.parametrize("model", ["ur3e", "ur5e", "ur10e"])
@settings(max_examples=30, deadline=None)
@given(q=angles)
def test_controller_and_arm_model_agree_on_where_the_flange_is(model: str, q: np.ndarray) -> None:
    T, _ = Kinematics(model).forward(q, np.eye(4))
    assert np.allclose(T, flange_of(arm_model(model), q), atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(step=st.lists(st.floats(-0.05, 0.05), min_size=6, max_size=6).map(np.array))
def test_inverse_undoes_forward_near_the_present_joints(step: np.ndarray) -> None:
    kinematics, q = Kinematics("ur5e"), np.array([0.1, -1.3, 1.4, -1.7, -1.5, 0.2])
    T, _ = kinematics.forward(q + step, np.eye(4))
    found = kinematics.inverse(ur_pose(T), q, np.eye(4))
    assert found is not None
    assert np.allclose(found, q + step, atol=1e-3)


def test_jacobian_is_the_derivative_of_the_pose() -> None:
    kinematics, q, tcp = Kinematics("ur10e"), np.array([0.3, -1.2, 1.1, -0.7, -1.4, 0.5]), transform(np.full(6, 0.1))
    T, J = kinematics.forward(q, tcp)
    for joint in range(6):
        moved, _ = kinematics.forward(q + 1e-6 * np.eye(6)[joint], tcp)
        assert np.allclose((moved[:3, 3] - T[:3, 3]) / 1e-6, J[:3, joint], atol=1e-5)
        assert np.allclose(rotation_vector(moved[:3, :3] @ T[:3, :3].T) / 1e-6, J[3:, joint], atol=1e-4)


def test_out_of_reach_has_no_inverse() -> None:
    assert Kinematics("ur5e").inverse(np.array([2.0, 0, 0, 0, 0, 0]), np.zeros(6), np.eye(4)) is None


@settings(max_examples=100, deadline=None)
@given(vector=vectors, position=vectors)
def test_driver_and_controller_mean_the_same_by_a_pose(vector: np.ndarray, position: np.ndarray) -> None:
    from scipy.spatial.transform import Rotation

    R = rotation(vector)
    assert np.allclose(rotation(rotation_vector(R)), R, atol=1e-9)
    x, y, z, w = Rotation.from_matrix(R).as_quat()
    for sign in (1.0, -1.0):  # both quaternions are the same rotation
        pose = np.array(to_ur(np.concatenate([position, sign * np.array([w, x, y, z])])))
        assert np.linalg.norm(pose[3:]) <= np.pi + 1e-9
        assert np.allclose(matrix_of(pose), transform(np.concatenate([position, vector])), atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(vector=vectors, turn=st.floats(0.0, 3.1), away=st.floats(0, 1.0))
def test_distance_of_poses_is_the_way_and_the_angle_between_them(vector: np.ndarray, turn: float, away: float) -> None:
    one = np.concatenate([[0.1, 0.2, 0.3], vector])
    T = transform(one)
    T[:3, :3] = T[:3, :3] @ rotation(np.array([0.0, turn, 0.0]))
    T[1, 3] += away
    assert apart(one, ur_pose(T)) == pytest.approx((away, turn), abs=1e-6)


def start(offset: int = 0) -> tuple[World, Registers, ControlProgram]:
    world, registers = World("ur5e"), Registers()
    program = ControlProgram(world, registers, offset, 0.0)
    program.cycle()
    return world, registers, program


@pytest.mark.parametrize("offset", [0, 24])
def test_program_says_ready_done_and_waits_for_the_clear(offset: int) -> None:
    _, registers, program = start(offset)
    assert registers.ints_out[offset] == READY
    registers.doubles_in[offset] = 25.0
    registers.ints_in[offset] = 35
    program.cycle()
    assert registers.ints_out[offset] == DONE
    assert program.watchdog_hz == 25.0
    registers.doubles_in[offset] = 50.0
    program.cycle()
    assert program.watchdog_hz == 25.0  # the command runs once
    registers.ints_in[offset] = 0
    program.cycle()
    assert registers.ints_out[offset] == READY


def test_a_command_that_is_not_emulated_ends_the_program_and_says_so() -> None:
    _, registers, program = start()
    registers.ints_in[0] = 52
    program.cycle()
    assert program.ended == "command 52 is not emulated"


def test_a_paused_program_takes_nothing() -> None:
    world, registers, program = start()
    program.paused = True
    registers.ints_in[0], registers.writes = 10, 1
    registers.doubles_in[:7] = [0, 0, 0.1, 0, 0, 0, 1.0]
    before = world.motion
    program.cycle()
    assert world.motion is before


def test_protective_stop_brings_a_moving_arm_to_rest() -> None:
    world, registers, program = start()
    registers.ints_in[0], registers.writes = 10, 1
    registers.doubles_in[:7] = [0, 0, 0.2, 0, 0, 0, 1.0]
    for _ in range(150):
        program.cycle()
        world.step()
    assert world.twist[2] == pytest.approx(0.2, abs=0.01)
    world.set_stop("protective_stop", True)
    for _ in range(50):
        world.step()
    assert world.still
    assert world.safety_bits >> 2 & 1


def test_the_register_half_is_read_from_the_uploaded_script() -> None:
    assert register_offset("def rtde_control():\n global reg_offset_int = # int register offset\n24\nend\n") == 24
    assert register_offset("def other():\n stopl(2)\nend\n") is None


def test_short_programs_set_tool_and_stop() -> None:
    world = World("ur5e")
    unknown = run_lines(
        "sec a():\n set_tcp(p[0, 0, 0.1, 0, 0, 0])\n set_payload(1.5, [0, 0, 0.05])\n foo(1)\nend\n", world
    )
    assert unknown == ["foo(1)"]
    assert world.tcp_offset[2] == 0.1
    assert world.payload_kg == 1.5


def test_rtde_sessions_send_what_was_asked_for_and_name_what_is_unknown() -> None:
    world, registers = World("ur5e"), Registers()
    session = Session(Outputs(world, registers, lambda: None), Inputs(registers))

    def ask(kind: str, body: bytes) -> bytes:
        return session.receive(HEADER.pack(3 + len(body), ord(kind)) + body)[3:]

    assert ask("V", b"\x00\x02") == b"\x01"
    assert b"NOT_FOUND" in ask("O", struct.pack(">d", 500.0) + b"timestamp,nonsense")
    assert ask("O", struct.pack(">d", 250.0) + b"timestamp,actual_q") == b"\x01DOUBLE,VECTOR6D"
    assert ask("S", b"") == b"\x01"
    packages = [session.package() for _ in range(10)]
    assert sum(package is not None for package in packages) == 5  # half of 500 Hz
    with pytest.raises(ValueError, match="recipe"):
        session.receive(HEADER.pack(4, ord("U")) + b"\x07")


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=40), kind=st.sampled_from([*"VvOISPUMx"]))
def test_an_rtde_session_hangs_up_on_nonsense_and_never_breaks(data: bytes, kind: str) -> None:
    registers = Registers()
    session = Session(Outputs(World("ur5e"), registers, lambda: None), Inputs(registers))
    with contextlib.suppress(ValueError, struct.error):
        session.receive(HEADER.pack(3 + len(data), ord(kind)) + data)
    with contextlib.suppress(ValueError, struct.error):
        session.receive(data)
