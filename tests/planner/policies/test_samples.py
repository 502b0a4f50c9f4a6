"""What a policy learns from: where the arm was sent after a moment, as offsets from where it was."""

from dataclasses import replace

import numpy as np
import pytest

from cascade.contracts.errors import DataError
from planner.policies.samples import REACH_M, chunk_of, load_films, to_film


def moving(episode, speed_m=0.01):
    """The hand moves by `speed_m` a frame along x and is aimed 3 cm ahead of itself."""
    n = len(episode.ee_position_m)
    position = np.zeros((n, 3))
    position[:, 0] = speed_m * np.arange(n)
    action = episode.action.copy()
    action[:, :3] = position + np.array([0.03, 0, 0])
    return replace(episode, ee_position_m=position, action=action)


def test_a_target_lies_where_the_hand_was_a_moment_later_and_as_far_ahead_as_it_was_aimed(episode_factory):
    episode = moving(episode_factory(0, "door-open"))

    chunk = chunk_of(episode, 4, 3)

    np.testing.assert_allclose(chunk[:, 0], 0.02 * np.arange(1, 4) + 0.03)  # 40 Hz: two frames a target
    np.testing.assert_allclose(chunk[:, 1:3], 0)
    np.testing.assert_allclose(chunk[:, 3], episode.action[[5, 7, 9], 7])


def test_aims_far_away_only_say_full_speed_and_after_the_end_the_hand_stays(episode_factory):
    episode = moving(episode_factory(0, "door-open"))
    action = episode.action.copy()
    action[:, 0] += 5.0
    last = len(action) - 1

    chunk = chunk_of(replace(episode, action=action), last, 4)

    np.testing.assert_allclose(chunk[:, 0], REACH_M, atol=0.011)


def test_a_film_keeps_ten_frames_a_second_with_hand_and_targets_of_the_same_moments(episode_factory):
    episode = episode_factory(3, "door-close")

    film = to_film(episode, "corner", 8, 0.0)

    starts = range(0, len(episode.ee_position_m), 4)
    assert film.frames.shape == (len(starts), 128, 128, 3)
    np.testing.assert_allclose(film.hand[:, :3], episode.ee_position_m[::4], atol=1e-6)
    np.testing.assert_allclose(film.targets[2], chunk_of(episode, 8, 8), atol=1e-6)


def test_failures_and_other_cameras_are_not_learnt_from(episode_factory):
    with pytest.raises(DataError, match="successful expert"):
        load_films([episode_factory(0, "door-open", success=False)], camera="corner", horizon=8, held_out=0.0)
    with pytest.raises(DataError, match="camera 'side'"):
        load_films([episode_factory(0, "door-open")], camera="side", horizon=8, held_out=0.0)
