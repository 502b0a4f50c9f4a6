"""Plan and motion: agreement (A), tube error (B), plan-swap effect (C), checked on paths whose answer is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cascade.contracts import DataError
from cascade.metrics import Status, agreement, consensus, event_f1, not_applicable, paired, swap_effect, tube_error
from cascade.metrics.paths import grip_events, path_length, resample, warp_pairs, warped_distance
from cascade.metrics.tube import extract_error, on_clock_of, path_error

quick = settings(max_examples=40, deadline=None)
coordinates = st.floats(-1, 1, allow_nan=False, width=32)


def paths(count: int = 12):
    return arrays.arrays(np.float64, (count, 3), elements=coordinates)


def curve(n: int = 25, size: float = 0.3, phase: float = 0.0) -> np.ndarray:
    s = np.linspace(0, 1, n)
    return size * np.column_stack([s, np.sin(3 * s + phase), 0.4 * s**2])


# A


@quick
@given(a=paths(), noise=paths(), scale=st.floats(0.5, 50))
def test_agreement_does_not_depend_on_scale(a, noise, scale):
    a = a + np.linspace([0, 0, 0], [3.0, 0, 0], len(a))
    b = a + 0.1 * noise
    once, scaled = agreement(a, b), agreement(scale * a, scale * b)

    assert once.status is scaled.status is Status.MEASURED
    assert scaled.position == pytest.approx(once.position, rel=1e-6, abs=1e-12)


@quick
@given(
    place=arrays.arrays(np.float64, 3, elements=coordinates),
    jitter=arrays.arrays(np.float64, (17, 3), elements=st.floats(-0.01, 0.01)),
)
def test_a_frozen_plan_is_never_called_consistent(place, jitter):
    a = np.tile(place, (17, 1))

    assert agreement(a, a).status is Status.NO_MOTION
    assert agreement(a + jitter, a).position is None
    assert agreement(a, a + np.linspace([0, 0, 0], [1.0, 0, 0], 17)).status is Status.NO_MOTION
    assert tube_error(a + jitter, a).status is Status.NO_MOTION
    assert tube_error(a + jitter, a).score is None


@quick
@given(a=paths(), shift=arrays.arrays(np.float64, 3, elements=coordinates))
def test_agreement_is_symmetric_and_grows_from_zero(a, shift):
    a = a + np.linspace([0, 0, 0], [3.0, 0, 0], len(a))

    assert agreement(a, a).position == 0
    there, back = agreement(a, a + shift), agreement(a + shift, a)
    assert there.position == pytest.approx(back.position)
    assert there.rms_m == pytest.approx(np.linalg.norm(shift))


def test_gripper_events_match_by_kind_and_time():
    grasp = np.array([1, 1, 1, 0, 0, 0, 0, 0, 1, 1.0])
    early = np.roll(grasp, -2)

    assert [(e.frame, e.closes) for e in grip_events(grasp)] == [(3, True), (8, False)]
    assert event_f1(grasp, grasp) == event_f1(grasp, early) == 1.0
    assert event_f1(grasp, np.roll(grasp, -3)) == 0.0
    assert event_f1(grasp, 1 - grasp) == 0.0
    assert event_f1(grasp, np.r_[grasp[:8], 0, 0]) == pytest.approx(2 / 3)
    assert event_f1(np.ones(5), np.ones(5)) == 1.0
    assert event_f1(np.ones(10), grasp) == 0.0
    assert agreement(curve(10), curve(10), a_opening=grasp, b_opening=np.ones(10)).grip == 1.0


def test_an_opening_that_wavers_around_one_half_is_no_event():
    assert grip_events(0.5 + 0.08 * (-1.0) ** np.arange(20)) == ()


def test_rotation_is_relative_to_the_turn():
    def about_z(angles):
        c, s = np.cos(angles), np.sin(angles)
        R = np.tile(np.eye(3), (len(angles), 1, 1))
        R[:, 0, 0], R[:, 0, 1], R[:, 1, 0], R[:, 1, 1] = c, -s, s, c
        return R

    turn = np.linspace(0, 1.0, 9)
    result = agreement(curve(9), curve(9), a_R=about_z(turn), b_R=about_z(turn + 0.2))
    assert result.rotation == pytest.approx(0.2, abs=1e-6)
    assert agreement(curve(9), curve(9), a_R=about_z(0 * turn), b_R=about_z(0 * turn)).rotation is None


def test_paths_at_another_pace_agree_once_paired():
    s = np.linspace(0, 1, 25)
    slow_start = np.column_stack([np.interp(s**2, s, column) for column in curve(25).T])

    assert agreement(curve(25), slow_start).position > 0.05
    assert agreement(**paired(curve(40), slow_start)).position < 0.01


def test_consensus_names_the_medoid_and_refuses_still_samples():
    samples = [curve() + np.array([0, 0, dz]) for dz in (0.0, 0.02, 0.2)]
    result = consensus(samples)

    assert result.detail["medoid"] == 1
    assert result.value == pytest.approx((0.02 + 0.18 + 0.2) / 3 / path_length(curve()))
    assert consensus([0.01 * path for path in samples]).status is Status.NO_MOTION
    assert consensus(samples[:1]).status is Status.UNAVAILABLE


# B


@quick
@given(a=paths(), b=paths(9), band=st.floats(0.05, 1))
def test_warping_is_monotone_complete_and_within_its_band(a, b, band):
    i, j = warp_pairs(a, b, band=band)

    assert (i[0], j[0]) == (0, 0)
    assert (i[-1], j[-1]) == (len(a) - 1, len(b) - 1)
    steps = np.column_stack([np.diff(i), np.diff(j)])
    assert ((steps >= 0) & (steps <= 1)).all()
    assert (steps.sum(1) >= 1).all()
    assert (np.abs(i / (len(a) - 1) - j / (len(b) - 1)) <= max(band, 1 / 8) + 1e-9).all()


def brute_force(a: np.ndarray, b: np.ndarray, i: int = 0, j: int = 0) -> float:
    here = float(np.linalg.norm(a[i] - b[j]))
    ways = [(x, y) for x, y in ((i + 1, j), (i, j + 1), (i + 1, j + 1)) if x < len(a) and y < len(b)]
    return here + (min(brute_force(a, b, x, y) for x, y in ways) if ways else 0.0)


@settings(max_examples=20, deadline=None)
@given(a=paths(5), b=paths(4))
def test_warping_is_exact(a, b):
    i, j = warp_pairs(a, b, band=1.0)

    assert np.linalg.norm(a[i] - b[j], axis=1).sum() == pytest.approx(brute_force(a, b), abs=1e-9)


@quick
@given(a=paths(), b=paths(), narrow=st.floats(0.1, 0.5), more=st.floats(0, 0.5))
def test_a_wider_band_never_costs_more(a, b, narrow, more):
    def cost(band):
        i, j = warp_pairs(a, b, band=band)
        return np.linalg.norm(a[i] - b[j], axis=1).sum()

    assert cost(narrow + more) <= cost(narrow) + 1e-9
    assert warped_distance(a, a) == 0.0


def test_the_tube_error_of_an_offset_is_the_offset_and_its_score_falls():
    offsets = [0.0, 0.01, 0.02, 0.05]
    tubes = [tube_error(curve(), curve() - np.array([0, 0, dz])) for dz in offsets]

    assert [tube.score for tube in tubes] == sorted((tube.score for tube in tubes), reverse=True)
    assert tubes[0].score == 1.0
    assert tubes[2].distance_m == pytest.approx(0.02, abs=0.006)
    assert tubes[2].score == pytest.approx(np.exp(-10 * tubes[2].distance_m / tubes[2].length_m))


def test_lag_is_positive_when_the_arm_comes_late():
    line = np.linspace([0.0, 0, 0], [0.4, 0, 0], 41)
    late = np.concatenate([np.repeat(line[:1], 4, axis=0), line[:-4]])
    tube = tube_error(line, late, dt_s=0.1)

    assert tube.lag > 0.05
    assert tube.lag_s == pytest.approx(tube.lag * 40 * 0.1)
    assert tube_error(late, line).lag < -0.05
    assert tube_error(line, late).lag_s is None


def test_the_split_blames_the_biased_extractor_and_not_imagination():
    truth, bias = curve(), np.array([0.0, 0.03, 0.0])
    extract = extract_error(truth + bias, truth)

    assert extract.value == pytest.approx(0.03)
    assert extract.detail["bias_m"] == pytest.approx(bias)
    assert path_error(truth + bias, truth + bias).value == pytest.approx(0, abs=1e-9)
    assert extract_error(0 * truth, 0 * truth).status is Status.NO_MOTION


def test_a_pause_vanishes_on_the_clock_of_what_happens():
    pause = np.concatenate([curve()[:12], np.repeat(curve()[12:13], 80, axis=0), curve()[13:]])

    # Standing still counts half a millimetre a step, so a pause shrinks but leaves a trace.
    assert np.abs(on_clock_of(pause) - on_clock_of(curve())).max() < 0.03
    assert len(resample(pause, 10)[0]) == 10


# C


def executions(plans: np.ndarray, a: float, noise: float = 0.0, repeats: int = 2, seed: int = 0) -> np.ndarray:
    """The toy executor: a share `a` of the plan and the rest of one memorised path."""
    memorised = curve(plans.shape[1], phase=0.7)
    runs = a * plans + (1 - a) * memorised
    noisy = np.random.default_rng(seed).normal(0, noise, (len(plans), repeats, *plans.shape[1:]))
    return runs[:, None] + noisy


GOALS = np.stack([curve(phase=p, size=0.3 + 0.1 * k) for k, p in enumerate((0.0, 1.5, 3.0))])


@quick
@given(a=st.floats(0, 1))
def test_the_swap_effect_is_the_share_of_the_plan_in_the_motion(a):
    assert swap_effect(GOALS, executions(GOALS, a)).effect == pytest.approx(a, abs=1e-6)


@pytest.mark.parametrize("a", [0.0, 0.5, 1.0])
def test_the_noise_floor_is_taken_off(a):
    found = [swap_effect(GOALS, executions(GOALS, a, noise=0.03, seed=s)) for s in range(30)]

    assert np.mean([f.effect for f in found]) == pytest.approx(a, abs=0.1)
    assert np.mean([f.noise_m for f in found]) == pytest.approx(0.03 * np.sqrt(6), rel=0.1)


def test_plans_are_identified_by_who_follows_and_not_by_who_ignores():
    follows, ignores = (swap_effect(GOALS, executions(GOALS, a)) for a in (1.0, 0.0))

    assert follows.identified == 1.0
    assert ignores.identified == pytest.approx(1 / 3)
    assert follows.chance == pytest.approx(1 / 3)


def test_an_arm_that_ignores_its_plan_passes_the_tube_and_not_the_swap():
    usual = GOALS[:2].copy()
    usual[1] = usual[0] + 0.02 * np.linspace(0, 1, 25)[:, None]
    habit = np.repeat(np.repeat(usual[:1, None], 2, axis=1), 2, axis=0)

    assert tube_error(usual[1], habit[1, 0]).score > 0.6
    assert swap_effect(usual, habit).effect == 0.0


def test_still_or_equal_plans_are_refused_and_no_plan_is_not_zero():
    still = np.zeros((2, 25, 3))
    same = np.stack([GOALS[0], GOALS[0]])

    assert swap_effect(still, executions(still, 1.0)).status is Status.NO_MOTION
    assert swap_effect(same, executions(same, 1.0)).status is Status.NO_MOTION
    assert not_applicable().status is Status.UNAVAILABLE
    assert not_applicable().effect is None


def test_plans_executed_only_once_have_no_noise_floor():
    with pytest.raises(DataError, match="r >= 2"):
        swap_effect(GOALS, executions(GOALS, 1.0, repeats=1))


def test_paths_of_two_lengths_must_be_paired_first():
    with pytest.raises(DataError, match="one shape"):
        agreement(curve(10), curve(11))
