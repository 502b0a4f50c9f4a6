from __future__ import annotations

import numpy as np
import pytest
import torch

from planner.sampling import integrate, noise, sigmas


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_levels_fall_evenly_and_none_is_wasted(steps):
    levels = sigmas(steps)
    assert levels[0] == 1
    np.testing.assert_allclose(np.diff(np.append(levels, 0)), -1 / steps)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_sure_prediction_is_reached_whatever_the_noise(steps):
    clean = torch.full((2, 3), 0.7)
    start = torch.from_numpy(noise((3,), 2, 1))
    assert torch.allclose(integrate(lambda x, t: clean, start, sigmas(steps)), clean, atol=1e-6)


def test_the_path_between_noise_and_data_is_straight():
    clean, start = torch.zeros(1), torch.ones(1)
    seen = []

    def predict(x, t):
        seen.append((float(x), t))
        return clean

    integrate(predict, start, sigmas(4))
    np.testing.assert_allclose(seen, [(1, 1), (0.75, 0.75), (0.5, 0.5), (0.25, 0.25)])


def test_noise_of_a_sample_does_not_depend_on_how_many_are_drawn():
    np.testing.assert_array_equal(noise((4,), 1, 7)[0], noise((4,), 3, 7)[0])
    assert not np.array_equal(noise((4,), 1, 7), noise((4,), 1, 8))
    assert not np.array_equal(noise((4,), 2, 7)[0], noise((4,), 2, 7)[1])
