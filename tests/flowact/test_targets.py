import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.contracts import ArmState, Observation
from flowact.rigid import rotation_about
from flowact.targets import STEP_M, Waypoint, chunk_of, quaternion_of


def observation(position, R=None):
    T = np.eye(4)
    T[:3, 3] = position
    if R is not None:
        T[:3, :3] = R
    return Observation(images={}, arm=ArmState(q=np.zeros(7), T_base_ee=T, gripper_opening=1.0, stamp_s=0.0))


def chunk(waypoints, here=(0.0, 0.5, 0.2), floor=0.02):
    return chunk_of(waypoints, observation(here), floor_m=floor, final=False, provenance={})


@given(st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_a_rotation_survives_the_trip_through_its_quaternion(seed):
    rng = np.random.default_rng(seed)
    axis = rng.normal(size=3)
    R = rotation_about(axis / np.linalg.norm(axis), rng.choice([0.0, np.pi, rng.uniform(-np.pi, np.pi)]))
    w, x, y, z = quaternion_of(R)
    again = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    np.testing.assert_allclose(again, R, atol=1e-9)


def test_long_ways_are_cut_into_short_jumps_that_end_at_the_waypoint():
    result = chunk([Waypoint(position_m=np.array([0.3, 0.7, 0.1]), gripper=0.0, hold_s=0.2, tolerance_m=0.005)])
    steps = np.linalg.norm(np.diff(result.values[:, :3], axis=0, prepend=[[0.0, 0.5, 0.2]]), axis=1)
    assert steps.max() <= STEP_M + 1e-9
    np.testing.assert_allclose(result.values[-1, :3], [0.3, 0.7, 0.1])
    assert result.hold_s[-1] == 0.2
    assert result.tolerance_m[-1] == 0.005
    assert not result.hold_s[:-1].any()


def test_no_target_is_below_the_floor():
    result = chunk([Waypoint(position_m=np.array([0.0, 0.5, -0.3]), gripper=1.0)], floor=0.03)
    assert result.values[:, 2].min() == pytest.approx(0.03)


def test_the_hand_keeps_its_orientation():
    R = rotation_about(np.array([0.0, 0.0, 1.0]), 0.7)
    result = chunk_of(
        [Waypoint(position_m=np.array([0.1, 0.5, 0.2]), gripper=1.0)],
        observation((0.0, 0.5, 0.2), R),
        floor_m=0.0,
        final=True,
        provenance={},
    )
    np.testing.assert_allclose(result.values[:, 3:], np.tile(quaternion_of(R), (len(result), 1)))


def test_no_waypoints_make_an_empty_final_chunk():
    result = chunk_of([], observation((0, 0, 0)), floor_m=0.0, final=True, provenance={})
    assert len(result) == 0
    assert result.final
