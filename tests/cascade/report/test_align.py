"""Alignment is exact, monotone, and anchored at both ends unless told otherwise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cascade.contracts import DataError
from cascade.report.align import by_time_fraction, frame_of_each_picture, frame_of_each_step, warp

numbers = st.floats(-1, 1, allow_nan=False, width=32)


def paths(most: int = 12) -> st.SearchStrategy[np.ndarray]:
    return st.integers(1, most).flatmap(lambda n: arrays(np.float64, (n, 3), elements=numbers))


def cost(a: np.ndarray, b: np.ndarray, i: np.ndarray, j: np.ndarray) -> float:
    return float(np.linalg.norm(a[i] - b[j], axis=1).sum())


@given(paths(), paths())
@settings(max_examples=60, deadline=None)
def test_pairs_run_from_first_to_last_in_single_steps(a: np.ndarray, b: np.ndarray) -> None:
    i, j = warp(a, b)
    assert (i[0], j[0]) == (0, 0)
    assert (i[-1], j[-1]) == (len(a) - 1, len(b) - 1)
    steps = np.stack([np.diff(i), np.diff(j)], axis=1)
    assert np.isin(steps, (0, 1)).all()
    assert (steps.sum(axis=1) >= 1).all()


@given(paths(4), paths(4))
@settings(max_examples=60, deadline=None)
def test_no_other_monotone_pairing_is_cheaper(a: np.ndarray, b: np.ndarray) -> None:
    distance = np.linalg.norm(a[:, None] - b[None], axis=-1)

    def cheapest(i: int, j: int) -> float:
        if i == 0 and j == 0:
            return distance[0, 0]
        before = [(i - 1, j), (i, j - 1), (i - 1, j - 1)]
        return distance[i, j] + min(cheapest(*pair) for pair in before if min(pair) >= 0)

    i, j = warp(a, b)
    assert cost(a, b, i, j) == pytest.approx(cheapest(len(a) - 1, len(b) - 1), abs=1e-9)


@given(paths())
@settings(max_examples=30, deadline=None)
def test_a_path_costs_nothing_against_itself(a: np.ndarray) -> None:
    assert cost(a, a, *warp(a, a)) == pytest.approx(0.0, abs=1e-12)


@given(paths(), paths(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_frames_beside_steps_never_go_back(a: np.ndarray, b: np.ndarray, open_end: bool) -> None:
    frames = frame_of_each_step(a, b, open_end=open_end)
    assert len(frames) == len(b)
    assert (np.diff(frames) >= 0).all()
    assert frames.min() >= 0
    assert frames.max() < len(a)


def test_a_slower_execution_shows_each_frame_while_the_hand_is_there() -> None:
    imagined = np.column_stack([np.linspace(0, 1, 5), np.zeros(5), np.zeros(5)])
    executed = np.column_stack([np.repeat(np.linspace(0, 1, 5), 4), np.zeros(20), np.zeros(20)])
    np.testing.assert_array_equal(frame_of_each_step(imagined, executed), np.repeat(np.arange(5), 4))


def test_an_execution_cut_off_half_way_does_not_reach_the_last_frame() -> None:
    imagined = np.column_stack([np.linspace(0, 1, 11), np.zeros(11), np.zeros(11)])
    executed = imagined[:6]
    assert frame_of_each_step(imagined, executed, open_end=True)[-1] == 5
    assert frame_of_each_step(imagined, executed)[-1] == 10


def test_a_plan_that_ends_standing_still_is_shown_to_its_end() -> None:
    imagined = np.array([[0, 0, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0]], dtype=float)
    assert frame_of_each_step(imagined, imagined[:2], open_end=True)[-1] == 3


def test_the_gripper_aligns_a_hand_that_stands_still() -> None:
    still, opening = np.zeros((5, 3)), np.array([1, 1, 1, 0.5, 0.2])
    steps, measured = np.zeros((9, 3)), np.array([1, 1, 1, 1, 1, 1, 1, 0.5, 0.2])
    frames = frame_of_each_step(still, steps, imagined_opening=opening, executed_opening=measured)
    np.testing.assert_array_equal(frames[-2:], [3, 4])
    assert frames[6] <= 2


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.zeros((0, 3)), np.zeros((2, 3))),
        (np.zeros((2, 3)), np.zeros((2, 4))),
        (np.full((2, 3), np.nan), np.zeros((2, 3))),
    ],
)
def test_paths_that_cannot_be_aligned_are_refused(a: np.ndarray, b: np.ndarray) -> None:
    with pytest.raises(DataError, match="warp: expected"):
        warp(a, b)


def test_without_a_path_both_run_evenly() -> None:
    frames = by_time_fraction(17, 100)
    assert (frames[0], frames[-1]) == (0, 16)
    assert (np.diff(frames) >= 0).all()
    assert len(by_time_fraction(5, 1)) == 1


def test_pictures_align_when_no_path_was_read() -> None:
    def picture(at: int) -> np.ndarray:
        image = np.zeros((64, 64, 3), dtype=np.uint8)
        image[20:36, at : at + 16] = (200, 30, 30)
        return image

    imagined = np.stack([picture(at) for at in (0, 12, 24, 36, 48)])
    executed = np.stack([picture(at) for at in (0, 0, 1, 12, 13, 24, 36, 36, 36, 48)])
    frames = frame_of_each_picture(imagined, executed)
    np.testing.assert_array_equal(frames, [0, 0, 0, 1, 1, 2, 3, 3, 3, 4])
    assert frame_of_each_picture(imagined, executed[:6], open_end=True)[-1] == 2
