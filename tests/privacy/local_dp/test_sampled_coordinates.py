"""Vectors by their coordinates: how many, which, and with what variance."""

import math

import numpy as np
import pytest

from fedsieve.privacy.local_dp import Duchi, Piecewise, SampledCoordinates, hybrid


@pytest.mark.parametrize(
    ("epsilon", "d", "k"), [(0.5, 10, 1), (2.6, 10, 1), (5.0, 10, 2), (100.0, 8, 8), (7.6, 2, 2)]
)
def test_the_number_of_coordinates_is_the_published_one(epsilon, d, k):
    mechanism = SampledCoordinates(epsilon, d)
    assert mechanism.k == k
    assert mechanism.one.epsilon == pytest.approx(epsilon / k)


@pytest.mark.parametrize("kind", [Duchi, Piecewise, hybrid])
@pytest.mark.parametrize("epsilon", [1.0, 8.0])
def test_reports_are_unbiased_with_the_stated_variance(kind, epsilon):
    mechanism, n = SampledCoordinates(epsilon, 6, kind), 60_000
    x = np.array([-1.0, -0.4, 0.0, 0.2, 0.7, 1.0])
    y = mechanism.privatize(np.tile(x, (n, 1)), np.random.default_rng(3))
    assert ((y != 0).sum(axis=1) <= mechanism.k).all()
    variance = mechanism.variance(x)
    assert (np.abs(y.mean(0) - x) < 4 * np.sqrt(variance / n)).all()
    fourth = ((y - y.mean(0)) ** 4).mean(0)
    assert (np.abs(y.var(0) - variance) < 4 * np.sqrt((fourth - variance**2) / n)).all()
    u = np.tile(np.linspace(-1, 1, 401)[:, None], (1, 6))
    assert mechanism.variance(u).max() == pytest.approx(mechanism.worst_variance, rel=1e-4)


def test_which_coordinates_are_drawn_does_not_depend_on_the_input():
    mechanism = SampledCoordinates(5.0, 5, Duchi)

    def drawn(x, n=20_000):
        y = mechanism.privatize(np.tile(x, (n, 1)), np.random.default_rng(5))
        return (y != 0).mean(axis=0), ((y[:, 0] != 0) & (y[:, 1] != 0)).mean()

    for x in (np.zeros(5), np.array([1.0, -1, 0.5, 0, 0])):
        single, pair = drawn(x)
        assert np.abs(single - 2 / 5).max() < 4 * math.sqrt(0.24 / 20_000)
        assert abs(pair - 1 / 10) < 4 * math.sqrt(0.09 / 20_000)


def test_shapes_are_kept():
    mechanism = SampledCoordinates(2.0, 3)
    for shape in ((3,), (2, 3), (4, 2, 3), (0, 3)):
        y = mechanism.privatize(np.zeros(shape), np.random.default_rng(0))
        assert y.shape == mechanism.variance(np.zeros(shape)).shape == shape


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="d=0 must be an integer >= 1"):
        SampledCoordinates(1.0, 0)
    with pytest.raises(ValueError, match="epsilon=-1 must be > 0"):
        SampledCoordinates(-1, 3)
    with pytest.raises(ValueError, match="epsilon=100"):
        SampledCoordinates(200.0, 2)  # 100 for each of the two coordinates
    with pytest.raises(ValueError, match="its last size must be d=3"):
        SampledCoordinates(1.0, 3).privatize(np.zeros(4), np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"x holds 1\.5"):
        SampledCoordinates(1.0, 3).privatize([0, 0, 1.5], np.random.default_rng(0))
