"""The exact Gaussian against 60 digits, at any mu and delta."""

import math

import mpmath
import pytest

from fedsieve.privacy._exact import gaussian_delta, gaussian_epsilon

MUS = (1e-200, 1e-12, 1e-6, 1e-3, 0.1, 0.99, 1.01, 5.0, 40.0)


def profile(epsilon, mu):
    """Balle and Wang 2018, Theorem 8, in arithmetic that loses nothing."""
    epsilon, mu = mpmath.mpf(epsilon), mpmath.mpf(mu)
    below, above = -epsilon / mu + mu / 2, -epsilon / mu - mu / 2
    return mpmath.ncdf(below) - mpmath.exp(epsilon) * mpmath.ncdf(above)


@pytest.mark.parametrize("mu", MUS)
def test_delta_to_twelve_digits(mu):
    with mpmath.workdps(500):
        for x in (0.0, 0.3, 2.0, 8.0, 20.0):
            epsilon = max(mu * x + mu * mu / 2, 0.0)
            exact = profile(epsilon, mu)
            # epsilon / mu is rounded too, and delta falls by a factor exp(-x) for each unit of it
            tolerance = 1e-12 + 1e-15 * (x + mu) * (x + 1)
            assert abs(gaussian_delta(mu, epsilon) - exact) <= tolerance * exact


@pytest.mark.parametrize("mu", MUS)
@pytest.mark.parametrize("delta", [1e-250, 1e-30, 1e-12, 1e-5, 0.3, 0.99])
def test_epsilon_is_above_the_root_by_next_to_nothing(mu, delta):
    found = gaussian_epsilon(mu, delta)
    with mpmath.workdps(500):
        assert profile(found, mu) <= delta
        if found > 0:
            assert profile(found * (1 - 1e-9) - 1e-11 * mu, mu) > delta


def test_no_end_of_the_range_is_an_error():
    assert math.isinf(gaussian_epsilon(math.inf, 1e-5))
    assert math.isinf(gaussian_epsilon(1e200, 1e-5))
    assert gaussian_epsilon(1e-320, 1e-5) == 0
