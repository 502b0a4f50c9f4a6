from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.contracts import DataError
from planner.training.data import (
    HeldOut,
    WindowSampler,
    draw_window,
    held_out_windows,
    is_held_out,
    load_tracks,
    project,
    to_track,
)

K = np.array([[100.0, 0, 64], [0, 100.0, 64], [0, 0, 1]])


@given(st.lists(st.floats(-0.5, 0.5), min_size=3, max_size=3), st.floats(0, 6.28))
@settings(deadline=None)
def test_projection_undoes_a_ray_from_any_camera(offset, angle):
    R = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = R, offset
    pixel, depth = np.array([30.0, 90.0]), 1.7
    in_camera = np.array([(pixel[0] - 64) / 100 * depth, (pixel[1] - 64) / 100 * depth, depth])
    point = R @ in_camera + offset
    np.testing.assert_allclose(project(point[None], K, T)[0], pixel, atol=1e-6)


def test_the_hand_is_where_it_was_drawn(episode_factory):
    track = to_track(episode_factory(5, "door-open"), "corner", 128, HeldOut())
    u, v = ((track.uv[-1] + 1) * 64).round().astype(int)
    assert (track.frames[-1][v, u] == 250).all()


def test_the_hand_follows_the_image_when_it_is_scaled(episode_factory):
    episode = episode_factory(5, "door-open")
    whole, half = to_track(episode, "corner", 128, HeldOut()), to_track(episode, "corner", 64, HeldOut())
    assert half.frames.shape[1:3] == (64, 64)
    np.testing.assert_allclose(whole.uv, half.uv, atol=1e-6)


def test_held_out_episodes_depend_on_task_and_seed_alone():
    kept = [seed for seed in range(3000) if is_held_out("hammer", seed, 0.03)]
    assert kept == [seed for seed in range(3000) if is_held_out("hammer", seed, 0.03)]
    assert 50 < len(kept) < 140
    assert set(kept) <= {seed for seed in range(3000) if is_held_out("hammer", seed, 0.1)}
    assert not any(is_held_out("hammer", seed, 0.0) for seed in range(100))


def test_seeds_can_be_held_out_by_name():
    kept = HeldOut(0.03, 900, 999)
    assert all(kept.keeps("hammer", seed) for seed in (900, 950, 999))
    others = [seed for seed in range(1000, 3000) if kept.keeps("hammer", seed)]
    assert others == [seed for seed in range(1000, 3000) if is_held_out("hammer", seed, 0.03)]
    assert not HeldOut().keeps("hammer", 0)


def test_the_whole_image_is_squeezed_and_the_hand_stays_where_it_was_drawn(wide_factory):
    episode = wide_factory(5, "door-open")
    track = to_track(episode, "corner", 128, HeldOut(), "whole")
    assert track.frames.shape[1:] == (128, 128, 3)
    u, v = ((track.uv[-1] + 1) * 64).round().astype(int)
    assert (track.frames[-1][v, u] > 240).all()
    square = to_track(episode, "corner", 128, HeldOut(), "square")
    assert abs(track.uv[-1, 0] * 1.5 - square.uv[-1, 0]) < 1e-5  # the image is 3 : 2, so the square is two thirds of it
    assert abs(track.uv[-1, 1] - square.uv[-1, 1]) < 1e-5


def test_every_camera_of_an_episode_becomes_a_track_with_its_number(wide_factory):
    class Source:
        digest = "two"

        def __len__(self):
            return 3

        def __getitem__(self, index):
            return wide_factory(index, "door-open")

    tracks = load_tracks(Source(), cameras=("side", "corner"), size=64, held_out=HeldOut(), view="whole")
    assert [t.camera for t in tracks] == [0, 1] * 3
    assert not np.array_equal(tracks[0].frames, tracks[1].frames)
    np.testing.assert_array_equal(tracks[0].position_m, tracks[1].position_m)


def test_failures_and_play_do_not_teach_plans(episode_factory):
    assert to_track(episode_factory(1, "door-open"), "corner", 64, HeldOut()).teaches
    assert not to_track(episode_factory(1, "door-open", success=False), "corner", 64, HeldOut()).teaches
    assert not to_track(episode_factory(1, "door-open", kind="play"), "corner", 64, HeldOut()).teaches


def test_a_missing_camera_is_named(episode_factory):
    with pytest.raises(DataError, match="wrist"):
        to_track(episode_factory(1, "door-open"), "wrist", 64, HeldOut())


def test_episodes_may_have_some_of_the_cameras_but_not_none(wide_factory):
    class Source:
        digest = "mixed"

        def __len__(self):
            return 2

        def __getitem__(self, index):
            episode = wide_factory(index, "door-open")
            return replace(episode, frames={"side": episode.frames["side"]}) if index else episode

    tracks = load_tracks(Source(), cameras=("corner", "side"), size=64, held_out=HeldOut())
    assert [t.camera for t in tracks] == [0, 1, 1]
    with pytest.raises(DataError, match="'wrist'"):
        load_tracks(Source(), cameras=("wrist",), size=64, held_out=HeldOut())


class _Failures:
    digest = "none"

    def __init__(self, factory):
        self._factory = factory

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return self._factory(index, "door-open", success=False)


def test_nothing_to_learn_from_is_an_error(episode_factory):
    with pytest.raises(DataError, match="cascade record"):
        load_tracks(_Failures(episode_factory), cameras=("corner",), size=64, held_out=HeldOut())


@pytest.fixture(scope="module")
def tracks(source_factory):
    return load_tracks(source_factory(12), cameras=("corner",), size=64, held_out=HeldOut(0.3))


def test_windows_end_with_the_episode_and_show_the_closing_hand(tracks):
    window = draw_window(tracks, 0, 16, 0)
    assert window.indices[0] == 0
    assert window.indices[-1] == len(tracks[0].frames) - 1
    opening = tracks[0].opening[window.indices]
    assert opening[0] == 1
    assert (np.diff(opening) < 0).any()


def test_sampler_keeps_off_held_out_episodes_and_mixes_tasks_and_starts(tracks):
    sampler = WindowSampler(tracks, frames=16, start_share=0.5, rng=np.random.default_rng(0))
    windows = sampler.draw(300)
    assert not any(tracks[w.track].held_out for w in windows)
    assert all(len(w.indices) == 17 and (np.diff(w.indices) >= 0).all() for w in windows)
    from_start = np.mean([w.indices[0] == 0 for w in windows])
    assert 0.4 < from_start < 0.7
    share = np.mean([tracks[w.track].task == "door-open" for w in windows])
    assert 0.4 < share < 0.6


def test_held_out_windows_are_held_out(tracks):
    windows = held_out_windows(tracks, 16, 8)
    assert windows
    assert all(tracks[w.track].held_out and w.indices[0] == 0 for w in windows)
