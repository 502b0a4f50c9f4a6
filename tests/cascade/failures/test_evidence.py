from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cascade.contracts import ActionChunk, EeReadout, ImageTransform, VideoPlan
from cascade.failures.evidence import first_attempt, in_tow, nearest
from cascade.failures.expert import read_need
from cascade.failures.witness import Account, Moment

START = np.array([0.0, 0.5, 0.3])
OBJECT = np.array([0.1, 0.7, 0.0])
GOAL = np.array([-0.2, 0.7, 0.3])
points = arrays(np.float64, (6, 3), elements=st.floats(-1, 1, width=32))
point = arrays(np.float64, 3, elements=st.floats(-1, 1, width=32))


def way(*corners, step_m=0.01):
    parts = [np.array([corners[0]])]
    for a, b in pairwise(corners):
        n = max(1, int(np.ceil(np.linalg.norm(b - a) / step_m)))
        parts.append(a + (b - a) * np.arange(1, n + 1)[:, None] / n)
    return np.vstack(parts)


def carried(hand, since, until=None):
    """The object stays in the hand from row `since` to row `until`, and where it is otherwise."""
    found = np.tile(OBJECT, (len(hand), 1))
    stop = len(hand) if until is None else until
    found[since:stop] = OBJECT + hand[since:stop] - hand[since]
    found[stop:] = found[stop - 1]
    return found


def need():
    hand = way(START, OBJECT, GOAL)
    grip = len(way(START, OBJECT)) - 1
    done = np.zeros(len(hand), dtype=bool)
    done[-1] = True
    return read_need(hand, carried(hand, grip)[:, None], done)


def account(hand, object_m, targets, *, opening=0.0, told=None, back=0):
    chunk = ActionChunk(
        values=np.hstack([targets, np.tile([1.0, 0, 0, 0], (len(targets), 1))]),
        gripper=np.zeros(len(targets)),
        times_s=np.arange(1.0, len(targets) + 1),
        provenance={"extractor": "idm", "readout": "pixels"},
    )
    plan = VideoPlan(
        instruction="carry",
        camera="corner",
        transform=ImageTransform.centre_square(8, 8, 8),
        frames=np.zeros((2, 8, 8, 3), dtype=np.uint8),
    )
    if told is not None:
        n = len(told)
        plan.readout = EeReadout(
            position_m=told, opening=np.ones(n), position_std_m=np.ones(n), opening_std=np.ones(n), source="other"
        )
    made = Account(start_m=START, objects_m=OBJECT[None], plans={0: plan}, chunks={0: [chunk]})
    for i in range(1, len(hand)):
        late = i >= len(hand) - back
        made.moments.append(Moment(plan=0, back=late, hand_m=hand[i], objects_m=object_m[i][None], opening=opening))
    return made


def test_an_expert_tells_where_it_touches_and_that_it_carries():
    found = need()
    assert np.linalg.norm(found.contact_m - OBJECT) < 0.02
    np.testing.assert_allclose(found.goal_m, GOAL)
    np.testing.assert_allclose(found.travel_m, GOAL - OBJECT, atol=1e-9)
    assert found.lifts
    assert found.succeeded


def test_settling_before_the_touch_is_no_touch():
    hand = way(START, OBJECT, GOAL)
    grip = len(way(START, OBJECT)) - 1
    object_m = carried(hand, grip)
    object_m[0] += [0, 0, 0.02]  # falls into place in the first step
    found = read_need(hand, object_m[:, None], np.zeros(len(hand), dtype=bool))
    assert found.contact == pytest.approx(grip, abs=1)
    assert not found.succeeded
    assert found.goal == len(hand) - 1


def test_nothing_moved_is_nothing_needed():
    hand = way(START, OBJECT)
    assert (
        read_need(hand, np.tile(OBJECT, (len(hand), 1, 1)).reshape(-1, 1, 3), np.zeros(len(hand), dtype=bool)) is None
    )


def test_an_object_that_is_carried_all_the_way_counts_as_carried_and_not_lost():
    hand = way(START, OBJECT, GOAL)
    grip = len(way(START, OBJECT)) - 1
    found = first_attempt(account(hand, carried(hand, grip), np.array([OBJECT, GOAL])), need(), horizon_hit=False)
    assert (found.touched, found.carried, found.lost, found.cut) == (True, True, False, False)
    assert found.share == pytest.approx(1.0, abs=1e-6)
    assert found.contact_error_m < 0.01
    assert found.goal_error_m < 1e-9


def test_an_object_that_stays_behind_a_closed_hand_is_lost_and_one_let_go_is_not():
    hand = way(START, OBJECT, GOAL)
    grip = len(way(START, OBJECT)) - 1
    dropped = carried(hand, grip, grip + 15)
    targets = np.array([OBJECT, GOAL])
    assert first_attempt(account(hand, dropped, targets), need(), horizon_hit=False).lost
    let_go = first_attempt(account(hand, dropped, targets, opening=1.0), need(), horizon_hit=False)
    assert let_go.carried
    assert not let_go.lost


def test_a_path_beside_the_object_has_its_error_and_the_other_reading_its_own():
    beside = np.array([OBJECT + np.array([0.06, 0, 0]), GOAL])
    hand = way(START, *beside)
    still = np.tile(OBJECT, (len(hand), 1))
    found = first_attempt(account(hand, still, beside, told=np.array([OBJECT, GOAL])), need(), horizon_hit=False)
    assert not found.touched
    assert 0.03 < found.contact_error_m < 0.061
    assert found.told_contact_error_m < 0.011
    same = account(hand, still, beside, told=np.array([START, *beside, GOAL + 0.005]))
    assert first_attempt(same, need(), horizon_hit=False).told_contact_error_m is None


def test_the_way_back_is_no_part_of_the_attempt():
    hand = way(START, START + np.array([0, 0, 0.05]), OBJECT)
    moved = np.tile(OBJECT, (len(hand), 1))
    moved[-3:] += [0.2, 0, 0]
    found = first_attempt(account(hand, moved, np.array([START])[:1], back=5), need(), horizon_hit=True)
    assert not found.touched
    assert not found.cut
    assert found.steps == len(hand) - 6
    nothing = Account(start_m=START, objects_m=OBJECT[None])
    assert first_attempt(nothing, need(), horizon_hit=True) is None


@given(points, point)
def test_a_path_is_never_farther_than_its_corners_and_moves_with_them(path, at):
    off, corner = nearest(path, at)
    assert off <= np.linalg.norm(path - at, axis=1).min() + 1e-9
    assert 0 <= corner < len(path) - 1
    assert nearest(path + 0.5, at + 0.5)[0] == pytest.approx(off, abs=1e-6)


@given(points, st.integers(0, 4), st.floats(0, 1))
def test_a_point_on_the_path_is_at_no_distance(path, piece, share):
    at = path[piece] + share * (path[piece + 1] - path[piece])
    assert nearest(path, at)[0] == pytest.approx(0.0, abs=1e-6)


def test_only_what_moves_with_the_hand_is_in_tow():
    hand = way(START, GOAL)
    assert in_tow(hand, hand - np.array([0, 0, 0.1]))[10:].all()
    assert not in_tow(hand, np.tile(OBJECT, (len(hand), 1))).any()
    assert not in_tow(np.tile(START, (40, 1)), np.tile(OBJECT, (40, 1))).any()
