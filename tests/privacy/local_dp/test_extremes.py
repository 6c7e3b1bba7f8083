"""Local mechanisms at the ends of what they allow: in range and unbiased, or refused by value."""

import math
import re
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsieve.privacy.local_dp import (
    Ball,
    Duchi,
    Laplace,
    Piecewise,
    PrivUnit,
    PrivUnitG,
    RandomisedResponse,
    SampledCoordinates,
    ThreeOutputs,
    hm_tp,
    hybrid,
    pm_sub,
    tuned_mixture,
)
from fedsieve.privacy.local_dp._interval import LEAST_EPSILON, MOST_EPSILON

INTERVAL = [Duchi, Laplace, Piecewise, ThreeOutputs, hm_tp, hybrid, pm_sub, tuned_mixture]
VECTOR = [Ball, PrivUnit, PrivUnitG]
ENDS = np.array([-1.0, 1.0, 0.0, -0.0, 5e-324, math.nextafter(1, 0), -math.nextafter(1, 0)])
EPSILONS = [LEAST_EPSILON, 1e-3, 0.61, math.log(2), math.log(5.53), 10.0, MOST_EPSILON]
N = 4000


def legal(epsilon):
    return LEAST_EPSILON <= epsilon <= MOST_EPSILON


@cache
def built(kind, *given):
    """The same one again: some are tuned for a second."""
    return kind(*given)


@pytest.mark.parametrize("kind", INTERVAL, ids=lambda kind: kind.__name__)
@given(st.floats(-8, 2.5).map(lambda e: 10.0**e) | st.floats())
@settings(deadline=None, max_examples=25)
def test_a_number_costs_any_epsilon_or_it_is_refused(kind, epsilon):
    if not legal(epsilon):
        with pytest.raises(ValueError, match=r"epsilon=.* must be >= 1e-06 and <= 20"):
            kind(epsilon)
        return
    mechanism = kind(epsilon)
    y = mechanism.privatize(np.tile(ENDS, 100), np.random.default_rng(1))
    assert np.isfinite(y).all()
    assert (np.abs(y) <= mechanism.bound * (1 + 1e-12)).all()
    variances = mechanism.variance(ENDS)
    assert (variances >= -1e-12).all()
    assert (variances <= mechanism.worst_variance * (1 + 1e-12) + 1e-12).all()


@pytest.mark.parametrize("epsilon", EPSILONS)
@pytest.mark.parametrize("kind", INTERVAL, ids=lambda kind: kind.__name__)
def test_reports_on_numbers_keep_mean_and_variance_at_the_ends(kind, epsilon):
    """To five standard errors, that of a variance from what the bound allows for."""
    mechanism = built(kind, epsilon)
    for x in (-1.0, 0.0, 1.0):
        y = mechanism.privatize(np.full(N, x), np.random.default_rng([3, int(x + 1)]))
        variance = float(mechanism.variance(x))
        assert abs(y.mean() - x) <= 5 * math.sqrt(variance / N)
        # |y - x| is at most the bound and one; Laplace's fourth moment is six squared variances
        fourth = min((mechanism.bound + 1) ** 2, 6 * variance) * variance
        # where a far report is rare, some may come or none
        rare = (mechanism.bound + 1) ** 2 / N if mechanism.bound < 9 else 0.0
        error = abs(((y - x) ** 2).mean() - variance)
        assert error <= 5 * math.sqrt(fourth / N) + 4 * rare


@pytest.mark.parametrize("epsilon", EPSILONS)
@pytest.mark.parametrize("kind", INTERVAL, ids=lambda kind: kind.__name__)
def test_laws_keep_the_ratio_at_the_ends(kind, epsilon):
    mechanism = built(kind, epsilon)
    most = math.exp(epsilon) * (1 + 1e-7)  # what the digits of 1 - a leave at epsilon = 20
    masses = mechanism.masses(ENDS)
    assert (masses.max(axis=0) <= most * masses.min(axis=0)).all()
    y = np.linspace(-1, 1, 101) * min(mechanism.bound, 5 / epsilon) * (1 - 1e-12)
    densities = mechanism.density(ENDS[:, None], y)
    assert (densities.max(axis=0) <= most * densities.min(axis=0)).all()


@pytest.mark.parametrize("beyond", [math.nextafter(1, 2), -1e300, math.inf, math.nan])
@pytest.mark.parametrize("kind", INTERVAL, ids=lambda kind: kind.__name__)
def test_numbers_beyond_the_interval_are_refused(kind, beyond):
    with pytest.raises(ValueError, match=r"x holds .* must lie in \[-1, 1\]"):
        built(kind, 1.0).privatize([0.0, beyond], np.random.default_rng(0))


@pytest.mark.parametrize("shape", [0.0, 1e-51, 1e51, math.inf, math.nan, -1.0])
def test_shapes_that_leave_the_floats_are_refused(shape):
    with pytest.raises(ValueError, match=re.escape(f"shape={shape} must be in")):
        Piecewise(1.0, shape)


@pytest.mark.parametrize("shape", [1e-50, 1e50])
def test_shapes_within_are_in_range(shape):
    mechanism = Piecewise(1e-6, shape)
    y = mechanism.privatize(ENDS, np.random.default_rng(0))
    assert (np.abs(y) <= mechanism.bound).all()
    assert math.isfinite(mechanism.worst_variance)


@pytest.mark.parametrize("d", [1, 2, 3, 100, 10**5])
@pytest.mark.parametrize("epsilon", [LEAST_EPSILON, 1.0, MOST_EPSILON])
@pytest.mark.parametrize("kind", VECTOR, ids=lambda kind: kind.__name__)
def test_reports_on_vectors_are_finite_of_the_stated_norm_and_unbiased(kind, epsilon, d):
    if d == 1 and kind is PrivUnit:
        with pytest.raises(ValueError, match=r"d=1 must be an integer >= 2"):
            kind(epsilon, d)
        return
    mechanism, n = kind(epsilon, d), 40 if d == 10**5 else N // 4
    u = np.zeros((n, d))
    u[:, -1] = 1.0
    y = mechanism.privatize(u, np.random.default_rng(5))
    assert np.isfinite(y).all()
    if kind is PrivUnitG:
        expected = mechanism.mean_square_norm
        assert (y**2).sum(axis=1).mean() == pytest.approx(expected, rel=6 * math.sqrt(2 / n))
    else:
        norms = np.linalg.norm(y, axis=1)
        assert norms == pytest.approx(np.full(n, mechanism.norm), rel=1e-5)
    along = y[:, -1]  # its mean is one, and its spread no more than that of the whole report
    assert abs(along.mean() - 1) <= 6 * math.sqrt((along.var() + 1e-12) / n) + 1e-5
    rest = y[:, :-1]
    spread = math.sqrt(max(mechanism.worst_variance, 0) / max(d - 1, 1) / n)
    assert (np.abs(rest.mean(axis=0)) <= 7 * spread + 1e-5).all()


@pytest.mark.parametrize("radius", [1e-100, 1e100])
def test_balls_of_any_size_are_scaled_copies(radius):
    x = np.array([[0.6, 0.8], [-1.0, 0.0], [0.0, 0.0]])
    one = Ball(1.0, 2).privatize(x, np.random.default_rng(0))
    other = Ball(1.0, 2, radius).privatize(x * radius, np.random.default_rng(0)) / radius
    assert other == pytest.approx(one, abs=1e-5)


@pytest.mark.parametrize("radius", [0.0, 1e-101, 1e101, math.inf, math.nan])
def test_balls_beyond_the_floats_are_refused(radius):
    with pytest.raises(ValueError, match=re.escape(f"radius={radius} must be in")):
        Ball(1.0, 2, radius)


@pytest.mark.parametrize("kind", VECTOR, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("size", [1e300, 1e160, 1.01])
def test_vectors_that_are_too_long_are_refused(kind, size):
    """Also where the square of the norm overflows."""
    with pytest.raises(ValueError, match="x holds a vector of norm"):
        kind(1.0, 3).privatize([0.0, size, 0.0], np.random.default_rng(0))


@pytest.mark.parametrize("d", [1, 3, 10**5])
@pytest.mark.parametrize("epsilon", [1e-6, 1.0, 2.5, 50.0])
def test_sampled_coordinates_share_any_budget(epsilon, d):
    """Beyond 20 a coordinate it is refused; the reports are those of the one mechanism, scaled."""
    if epsilon / max(1, min(d, int(epsilon / 2.5))) > MOST_EPSILON or (epsilon == 50 and d == 1):
        with pytest.raises(ValueError, match=r"epsilon=50.0 must be >= 1e-06 and <= 20"):
            SampledCoordinates(epsilon, d)
        return
    mechanism = SampledCoordinates(epsilon, d)
    reports = mechanism.privatize(np.ones((3, d)), np.random.default_rng(0))
    assert ((reports != 0).sum(axis=1) <= mechanism.k).all()
    assert (np.abs(reports) <= mechanism.one.bound * d / mechanism.k * (1 + 1e-12)).all()
    assert math.isfinite(mechanism.worst_variance)


@pytest.mark.parametrize("k", [2, 3, 2**31])
@pytest.mark.parametrize("epsilon", [LEAST_EPSILON, 1.0, MOST_EPSILON])
def test_answers_stay_in_the_list_and_shares_are_unbiased(epsilon, k):
    mechanism = RandomisedResponse(epsilon, k)
    answers = np.array([0, k - 1] * (N // 2))
    reports = mechanism.privatize(answers, np.random.default_rng(0))
    assert ((reports >= 0) & (reports < k)).all()
    kept = (reports == answers).mean()
    assert abs(kept - mechanism.p) <= 5 * math.sqrt(mechanism.p * (1 - mechanism.p) / N) + 1e-12
    assert mechanism.p / mechanism.q == pytest.approx(math.exp(epsilon), rel=1e-12)
    assert np.isfinite(mechanism.variance([0.0, 0.5, 1.0], N)).all()
    if k < 9:
        # the expected counts of a population give its shares back
        population = np.array([0.75, *[0.25 / (k - 1)] * (k - 1)])
        expected = population * mechanism.p + (1 - population) * mechanism.q
        counts = np.rint(expected * 4 * 10**5).astype(int)
        found = mechanism.estimate(np.repeat(np.arange(k), counts))
        rounding = k / (4 * 10**5 * (mechanism.p - mechanism.q))
        assert found == pytest.approx(population, abs=rounding)
        assert found.sum() == pytest.approx(1, abs=1e-6)


def test_no_reports_give_no_shares():
    with pytest.raises(ValueError, match="reports is empty"):
        RandomisedResponse(1.0, 2).estimate(np.array([], dtype=int))


def test_whole_numbers_of_another_type_are_numbers_too():
    x = np.array([0.6, 0.8])
    for kind in (*VECTOR, SampledCoordinates):
        one, other = (
            kind(1.0, d).privatize(x, np.random.default_rng(0)) for d in (2, np.float64(2))
        )
        assert np.array_equal(one, other)
    whole = RandomisedResponse(1.0, 4.0)
    assert len(whole.estimate(whole.privatize([0, 3], np.random.default_rng(0)))) == 4
