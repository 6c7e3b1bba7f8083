"""Two clients never draw the same noise, and noise never vanishes in floating point."""

import copy

import numpy as np
import pytest
import torch

from fedsieve.privacy import CorrelatedGaussian, GaussianMechanism


def pair(i, j):
    return np.random.default_rng([i, j])


MECHANISMS = {
    "gaussian": lambda sums, rngs: GaussianMechanism(1.0, 1.0, 4).privatize(sums, rngs),
    "correlated": lambda sums, rngs: CorrelatedGaussian(1.0, 1.0, 2.0, 4).privatize(
        sums, rngs, pair
    ),
}


@pytest.mark.parametrize("name", MECHANISMS)
@pytest.mark.parametrize("k", [1, 2, 200_000])
def test_generators_in_the_same_state_are_refused(name, k):
    first, other = np.random.default_rng(3), np.random.default_rng(4)
    with pytest.raises(ValueError, match="in the same state and draw the same noise"):
        MECHANISMS[name](torch.zeros(3, k), [first, other, copy.deepcopy(first)])
    MECHANISMS[name](torch.zeros(2, k), [first, other])


@pytest.mark.parametrize(("sigma", "clip"), [(1e-200, 1e-200), (1e-10, 1e-300), (10.0, 1e308)])
def test_noise_that_is_no_number_is_refused(sigma, clip):
    with pytest.raises(ValueError, match="noise of standard deviation"):
        GaussianMechanism(clip, sigma, 1)
    with pytest.raises(ValueError, match="noise of standard deviation"):
        CorrelatedGaussian(clip, sigma, 0.0, 1)
