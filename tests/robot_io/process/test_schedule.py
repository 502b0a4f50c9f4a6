from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_io.process.channel import Command
from robot_io.process.poses import interpolate, matrix_of, pose_of, rotation_vector
from robot_io.process.schedule import Targets

S = 1_000_000_000
TTL = S // 10


def pose(x: float) -> np.ndarray:
    return np.array([x, 0.0, 0.3, 0.0, 1.0, 0.0, 0.0])


def chunk(sequence: int, xs: list[float], times_s: list[float], sent_s: float = 0.0) -> Command:
    times = np.array([round(t * S) for t in times_s], dtype=np.int64)
    return Command(sequence, round(sent_s * S), 0, TTL, np.stack([pose(x) for x in xs]), np.ones(len(xs)), times)


def single(sequence: int, x: float, sent_s: float) -> Command:
    return Command(sequence, round(sent_s * S), 0, TTL, pose(x)[None], np.ones(1))


def x_at(targets: Targets, time_s: float) -> float | None:
    target, _ = targets.at(round(time_s * S))
    return None if target is None else float(target[0])


def test_commands_survive_the_way_through_memory() -> None:
    for command in (chunk(3, [0.1, 0.2], [1.0, 2.0]), single(4, 0.3, 1.0)):
        found = Command.unpack(command.pack())
        assert (found.sequence, found.sent_ns, found.ttl_ns) == (command.sequence, command.sent_ns, command.ttl_ns)
        np.testing.assert_array_equal(found.values, command.values)
        np.testing.assert_array_equal(found.gripper, command.gripper)
        assert (found.times_ns is None) == (command.times_ns is None)


def test_a_target_holds_for_its_time_to_live_and_no_longer() -> None:
    targets = Targets()
    assert targets.take(single(1, 0.5, 1.0), S, pose(0.4))
    assert x_at(targets, 1.09) == pytest.approx(0.5)
    assert x_at(targets, 1.11) is None


def test_a_schedule_leads_from_the_setpoint_through_its_targets_and_ends() -> None:
    targets = Targets()
    targets.take(chunk(1, [0.5, 0.7], [2.0, 3.0]), S, pose(0.4))
    assert x_at(targets, 1.5) == pytest.approx(0.45)
    assert x_at(targets, 2.5) == pytest.approx(0.6)
    assert x_at(targets, 3.05) == pytest.approx(0.7)
    assert x_at(targets, 3.11) is None


def test_a_newer_schedule_replaces_the_tail_that_is_not_executed_and_keeps_what_comes_before() -> None:
    targets = Targets()
    targets.take(chunk(1, [0.5, 0.6, 0.9], [2.0, 3.0, 4.0]), S, pose(0.4))
    targets.take(chunk(2, [0.3], [3.5]), round(2.5 * S), pose(0.4))
    assert x_at(targets, 2.5) == pytest.approx(0.55)
    assert x_at(targets, 3.0) == pytest.approx(0.6)  # before the first new target: as it was
    assert x_at(targets, 3.5) == pytest.approx(0.3)
    assert x_at(targets, 3.61) is None  # the old last target is gone


def test_older_commands_are_dropped_and_a_flush_leaves_nothing() -> None:
    targets = Targets()
    targets.take(chunk(5, [0.5], [2.0]), S, pose(0.4))
    assert not targets.take(chunk(4, [0.9], [2.0]), S, pose(0.4))
    assert not targets.take(chunk(5, [0.9], [2.0]), S, pose(0.4))
    assert x_at(targets, 2.0) == pytest.approx(0.5)
    targets.flush(9)
    assert x_at(targets, 2.0) is None
    assert not targets.take(single(9, 0.9, 1.0), S, pose(0.4))
    assert targets.take(single(10, 0.9, 1.0), S, pose(0.4))


def test_a_schedule_whose_times_have_passed_goes_to_its_last_target_only() -> None:
    targets = Targets()
    targets.take(chunk(1, [0.5, 0.6], [1.0, 1.95]), 2 * S, pose(0.4))
    assert x_at(targets, 2.0) == pytest.approx(0.6)
    assert x_at(targets, 2.06) is None


quaternions = st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1)


@given(quaternions, quaternions, st.floats(0, 1))
def test_interpolation_turns_by_the_share_of_the_angle_on_the_shorter_way(
    first: list[float], second: list[float], share: float
) -> None:
    a, b = (np.array([0, 0, 0, *q]) for q in (first, second))
    a[3:], b[3:] = a[3:] / np.linalg.norm(a[3:]), b[3:] / np.linalg.norm(b[3:])
    mixed = interpolate(a, b, share)
    Ra, Rb, Rm = (matrix_of(p)[:3, :3] for p in (a, b, mixed))
    whole, part = np.linalg.norm(rotation_vector(Rb @ Ra.T)), np.linalg.norm(rotation_vector(Rm @ Ra.T))
    assert part == pytest.approx(share * whole, abs=1e-3)
    assert abs(pose_of(matrix_of(mixed))[3:] @ mixed[3:]) == pytest.approx(1.0, abs=1e-9)
