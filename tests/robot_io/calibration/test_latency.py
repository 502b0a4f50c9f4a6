import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.contracts import DataError
from robot_io.calibration.latency import MotionWatch, find_latency


def wander(times, seed=0):
    """A hand that moves to and fro without a beat: position (N, 3) [m]."""
    rng = np.random.default_rng(seed)
    # No two of these fit into a common beat, whatever the phases.
    waves = [(f, rng.uniform(0, 6), rng.uniform(0.02, 0.04)) for f in (0.23, 0.37, 0.53, 0.71, 0.97, 1.31, 1.73)]
    x = sum(size * np.sin(2 * np.pi * f * times + phase) for f, phase, size in waves)
    return np.stack([x, 0.3 * x, 0 * x], axis=-1)


def speeds(times, places):
    return (times[1:] + times[:-1]) / 2, np.linalg.norm(np.diff(places, axis=0), axis=1) / np.diff(times)


@settings(deadline=None, max_examples=30)
@given(st.floats(0, 0.5), st.integers(0, 1000))
def test_the_delay_is_found_to_a_third_of_a_picture(delay, seed):
    rng = np.random.default_rng(seed)
    arm, speed = speeds(np.arange(0, 14, 0.008), wander(np.arange(0, 14, 0.008), seed))
    stamps = np.arange(0.5, 13.5, 1 / 30)
    seen, motion = speeds(stamps, wander(stamps - delay, seed))
    motion = motion + rng.normal(0, 0.02, len(motion))
    found = find_latency(arm, speed, seen, motion)
    assert found.latency_s == pytest.approx(delay, abs=0.011)
    assert found.correlation > 0.8


def test_a_picture_that_knows_nothing_of_the_arm_is_refused():
    times = np.arange(0, 14, 0.008)
    arm, speed = speeds(times, wander(times, 1))
    stamps = np.arange(0.5, 13.5, 1 / 30)
    with pytest.raises(DataError, match="to move with the arm"):
        find_latency(arm, speed, stamps, np.random.default_rng(0).normal(size=len(stamps)))


def test_a_steady_beat_is_refused():
    times = np.arange(0, 14, 0.008)
    arm, speed = speeds(times, np.sin(2 * np.pi * 2 * times)[:, None] * np.ones(3))
    stamps = np.arange(0.5, 13.5, 1 / 30)
    seen, motion = speeds(stamps, np.sin(2 * np.pi * 2 * (stamps - 0.05))[:, None] * np.ones(3))
    with pytest.raises(DataError, match="steady beat"):
        find_latency(arm, speed, seen, motion)


def test_an_arm_that_stands_still_is_refused():
    times = np.arange(0, 14, 0.02)
    with pytest.raises(DataError, match="stood still"):
        find_latency(times, np.zeros_like(times), times, np.ones_like(times))


def test_pictures_of_a_moving_hand_tell_the_delay():
    watch, delay = MotionWatch(), 0.12
    rng = np.random.default_rng(0)
    table = rng.integers(60, 120, (120, 160, 3)).astype(np.uint8)
    for t in np.arange(0, 10, 0.01):
        watch.feel(wander(np.array([t]), 3)[0], t)
    for t in np.arange(0, 10, 1 / 30):
        picture = table.copy()
        x = 80 + int(300 * wander(np.array([t - delay]), 3)[0, 0])
        picture[40:80, max(0, x - 20) : x + 20] = 220
        noisy = np.clip(picture + rng.normal(0, 1.5, picture.shape), 0, 255).astype(np.uint8)
        watch.see(noisy, t)
        watch.see(noisy, t)  # a picture may be read twice
    found = watch.latency(longest_s=0.5, least_correlation=0.6)
    assert found.latency_s == pytest.approx(delay, abs=0.02)
