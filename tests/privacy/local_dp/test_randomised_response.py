"""Answers from a list: probabilities, estimates, refusals."""

import math

import numpy as np
import pytest
from scipy import stats

from fedsieve.privacy.local_dp import RandomisedResponse


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 5.0, 20.0])
@pytest.mark.parametrize("k", [2, 3, 50])
def test_probabilities_add_up_and_differ_by_e_to_the_epsilon(epsilon, k):
    masses = RandomisedResponse(epsilon, k).masses(np.arange(k))
    np.testing.assert_allclose(masses.sum(1), 1)
    np.testing.assert_allclose(masses.max(0) / masses.min(0), math.exp(epsilon))


@pytest.mark.parametrize("k", [2, 5])
def test_reports_follow_the_probabilities(k):
    mechanism, n = RandomisedResponse(1.2, k), 20_000
    for answer in range(k):
        y = mechanism.privatize(np.full(n, answer), np.random.default_rng(answer))
        counts = np.bincount(y, minlength=k)
        assert stats.chisquare(counts, n * mechanism.masses(answer)).pvalue > 1e-4


def test_the_estimate_is_unbiased_with_the_stated_variance():
    mechanism, generator = RandomisedResponse(1.0, 3), np.random.default_rng(0)
    answers = np.repeat([0, 1, 2], [120, 60, 20])
    found = np.array(
        [mechanism.estimate(mechanism.privatize(answers, generator)) for _ in range(3000)]
    )
    share = np.array([0.6, 0.3, 0.1])
    variance = mechanism.variance(share, len(answers))
    assert (np.abs(found.mean(0) - share) < 4 * np.sqrt(variance / 3000)).all()
    assert (np.abs(found.var(0) / variance - 1) < 4 * math.sqrt(2 / 3000)).all()
    np.testing.assert_allclose(found.sum(1), 1)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="k=1 must be an integer"):
        RandomisedResponse(1.0, 1)
    with pytest.raises(ValueError, match="epsilon=-1"):
        RandomisedResponse(-1, 2)
    mechanism = RandomisedResponse(1.0, 3)
    with pytest.raises(ValueError, match="x holds 3; answers go from 0 to 2"):
        mechanism.privatize([0, 3], np.random.default_rng(0))
    with pytest.raises(ValueError, match="answers must be integers"):
        mechanism.privatize([0.5], np.random.default_rng(0))
