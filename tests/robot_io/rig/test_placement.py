"""An arm seen from the rig's base frame: there and back is the same, boxes stay boxes, forces turn with the base."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from cascade.contracts import ArmState, Limits
from robot_io.rig.config import PlaceConfig
from robot_io.rig.placed_arm import Placement, pose_of, target_of

metres = st.floats(-2, 2)
points = st.tuples(metres, metres, metres)
angles = st.tuples(*[st.floats(-180, 180)] * 3)
quarters = st.tuples(*[st.sampled_from([-180.0, -90.0, 0.0, 90.0, 180.0])] * 3)


def pose(xyz, rpy):
    return PlaceConfig(xyz_m=xyz, rpy_deg=rpy).matrix()


def placement(mount, quarter, tool):
    return Placement(pose(mount, quarter), pose((0, 0, 0), tool))


@given(points, quarters, angles, points, angles)
@settings(max_examples=60, deadline=None)
def test_there_and_back_is_the_same_pose(mount, quarter, tool, xyz, rpy):
    place, T = placement(mount, quarter, tool), pose(xyz, rpy)
    np.testing.assert_allclose(place.to_base(place.to_robot(T)), T, atol=1e-9)
    np.testing.assert_allclose(pose_of(target_of(T)), T, atol=1e-9)


@given(points, quarters, angles, points, st.tuples(*[st.floats(0.1, 1.0)] * 3), points)
@settings(max_examples=60, deadline=None)
def test_a_point_is_inside_the_workspace_in_one_frame_exactly_when_it_is_in_the_other(
    mount, quarter, tool, low, size, point
):
    box = np.array([low, np.array(low) + size])
    limits = Limits(
        workspace_m=box,
        keep_outs_m=(box,),
        max_speed_m_s=0.1,
        max_acceleration_m_s2=1,
        max_jerk_m_s3=1,
        max_step_m=0.1,
        max_rotation_rad=0.1,
    )
    place = placement(mount, quarter, tool)
    there = place.limits_to_robot(limits)
    T = pose(point, (0, 0, 0))
    moved = place.to_robot(T)[:3, 3]
    apart = np.minimum(np.abs(T[:3, 3] - box[0]), np.abs(T[:3, 3] - box[1])).min()
    if apart > 1e-6:
        inside = bool(np.all(T[:3, 3] > box[0]) and np.all(T[:3, 3] < box[1]))
        for other in (there.workspace_m, there.keep_outs_m[0]):
            assert inside == bool(np.all(moved > other[0]) and np.all(moved < other[1]))


def test_state_forces_speeds_and_setpoint_come_in_the_base_frame():
    place = placement((0.1, 0.2, 0.3), (0, 0, 90), (180, -90, 0))
    T = pose((0.4, 0.0, 0.2), (170, 5, 20))
    state = ArmState(
        q=np.zeros(6),
        T_base_ee=T,
        gripper_opening=0.5,
        stamp_s=1.0,
        twist=np.array([1.0, 0, 0, 0, 0, 1]),
        wrench=np.array([0, 2.0, 0, 3, 0, 0]),
        setpoint=target_of(T),
    )
    seen = place.state_to_base(state)
    np.testing.assert_allclose(seen.position_m, [0.1, 0.6, 0.5], atol=1e-9)
    np.testing.assert_allclose(seen.twist, [0, 1, 0, 0, 0, 1], atol=1e-9)
    np.testing.assert_allclose(seen.wrench, [-2, 0, 0, 0, 3, 0], atol=1e-9)
    np.testing.assert_allclose(pose_of(seen.setpoint), seen.T_base_ee, atol=1e-9)


def test_the_shipped_tool_turns_make_the_simulated_hand_of_an_arm_at_rest_point_down_along_its_x():
    from robot_io.process.models import arm_model

    for model, mount, tool in (("ur5e", (0, 0, -90), (180, -90, 0)), ("xarm7", (0, 0, 90), (-90, -90, 0))):
        chain = arm_model(model)
        T = np.eye(4)
        for joint, angle in zip(chain.placements, chain.rest_q, strict=True):
            turn = np.eye(4)
            turn[:3, :3] = Rotation.from_euler("z", angle).as_matrix()
            T = T @ joint @ turn
        seen = placement((0, 0, 0), mount, tool).to_base(T @ chain.T_last_flange)
        held = Rotation.from_quat([0, np.sqrt(0.5), 0, np.sqrt(0.5)]).as_matrix()  # as Meta-World holds its hand
        np.testing.assert_allclose(seen[:3, :3], held, atol=1e-6)
