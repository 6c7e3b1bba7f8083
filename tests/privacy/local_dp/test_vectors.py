"""The mechanisms for vectors in a ball or on the sphere: privacy, norms, mean and error."""

import math

import numpy as np
import pytest
from scipy import stats

from fedsieve.privacy.local_dp import Ball, PrivUnit, PrivUnitG

KINDS = [Ball, PrivUnit, PrivUnitG]
each_kind = pytest.mark.parametrize("kind", KINDS)


def unit(d, seed=0):
    u = np.random.default_rng(seed).standard_normal(d)
    return u / np.linalg.norm(u)


@each_kind
@pytest.mark.parametrize("epsilon", [0.5, 2.0, 8.0])
@pytest.mark.parametrize("d", [2, 3, 20])
def test_densities_at_any_two_inputs_differ_by_at_most_e_to_the_epsilon(kind, epsilon, d):
    mechanism = kind(epsilon, d)
    inputs = [unit(d, seed) for seed in range(6)]
    inputs += [-inputs[0], np.eye(d)[0]]
    if kind is Ball:
        inputs += [np.zeros(d), 0.3 * inputs[1], -0.999 * inputs[2]]
    y = np.concatenate([mechanism.privatize(np.tile(x, (200, 1)), generator(1)) for x in inputs])
    law = np.array([mechanism.density(x, y) for x in inputs])
    assert (law.max(0) <= math.exp(epsilon) * (1 + 1e-9) * law.min(0)).all()
    # the budget is used in full, or nothing would be gained by it
    assert (law.max(0) / law.min(0)).max() == pytest.approx(math.exp(epsilon), rel=1e-6)


def generator(*seed):
    return np.random.default_rng(seed)


@each_kind
@pytest.mark.parametrize("d", [2, 9])
def test_the_density_averages_to_one(kind, d):
    mechanism, n = kind(3.0, d), 200_000
    y = generator(2).standard_normal((n, d))  # the uninformed law: a sphere or a Gaussian
    if kind is PrivUnitG:
        y *= math.sqrt((mechanism.mean_square_norm) / d)  # any scale: it is split by cosine alone
        y = generator(3).standard_normal((n, d)) / (mechanism._m(mechanism.cap) * math.sqrt(d))
    else:
        y *= mechanism.norm / np.linalg.norm(y, axis=1, keepdims=True)
    density = mechanism.density(unit(d), y)
    assert abs(density.mean() - 1) < 4 * density.std() / math.sqrt(n)


@each_kind
@pytest.mark.parametrize("epsilon", [0.5, 2.0, 8.0])
@pytest.mark.parametrize("d", [2, 3, 40])
def test_reports_are_unbiased_with_the_stated_error(kind, epsilon, d):
    mechanism, n, u = kind(epsilon, d), 20_000, unit(d)
    y = mechanism.privatize(np.tile(u, (n, 1)), generator(4, d))
    error = mechanism.worst_variance if kind is not Ball else mechanism.variance(u)
    # along the input and across it, each within its standard error
    along, across = y @ u, y - np.outer(y @ u, u)
    assert abs(along.mean() - 1) < 4 * along.std() / math.sqrt(n) + 1e-6
    expected = across.var(0).sum() / n
    assert np.square(across.mean(0)).sum() < expected * (1 + 6 * math.sqrt(2 / (d - 1)))
    squared = np.square(y - u).sum(1)
    assert abs(squared.mean() - error) < 4 * squared.std() / math.sqrt(n) + 1e-5 * error


@each_kind
def test_norms_are_the_stated_ones(kind):
    mechanism, x = kind(2.0, 30), np.tile(unit(30), (5000, 1))
    norms = np.linalg.norm(mechanism.privatize(x, generator(5)), axis=1)
    if kind is PrivUnitG:
        squares = norms**2
        deviation = 4 * squares.std() / math.sqrt(len(squares))
        assert abs(squares.mean() - mechanism.mean_square_norm) < deviation
    else:
        np.testing.assert_allclose(norms, mechanism.norm, rtol=1e-6)


# mean squared error over d for one unit vector
@pytest.mark.parametrize(
    ("epsilon", "gaussian", "ball"),
    [(0.5, 25.2, 26.2), (1, 6.33, 7.35), (2, 1.62, 2.71), (4, 0.435, 1.69), (8, 0.133, 1.57)],
)
def test_the_table_of_errors(epsilon, gaussian, ball):
    d = 2000
    assert PrivUnitG(epsilon, d).worst_variance / d == pytest.approx(gaussian, rel=0.01)
    assert Ball(epsilon, d).variance(np.eye(1, d)[0]) / d == pytest.approx(ball, rel=0.01)
    assert PrivUnit(epsilon, d).worst_variance / d == pytest.approx(gaussian, rel=0.02)
    assert PrivUnit(epsilon, d).worst_variance <= PrivUnitG(epsilon, d).worst_variance


@pytest.mark.parametrize("kind", [PrivUnit, PrivUnitG])
@pytest.mark.parametrize("epsilon", [0.5, 3.0, 12.0])
def test_the_cap_is_the_best_one(kind, epsilon):
    mechanism = kind(epsilon, 50)
    cap = mechanism.cap
    assert cap.inside / cap.outside == pytest.approx(math.exp(epsilon), rel=1e-6)
    assert abs(cap.R + cap.Q - 1) < 1e-12
    for gamma in np.linspace(0, 0.9, 200):
        R, Q = mechanism._shares(gamma)
        p = math.exp(epsilon) * R / (math.exp(epsilon) * R + Q)
        other = type(cap)(gamma, p, R, Q)
        if kind is PrivUnit:
            assert mechanism._m(other) <= mechanism._m(cap) * (1 + 1e-6)
        else:
            assert mechanism._error(other) >= mechanism.worst_variance * (1 - 1e-6)


@pytest.mark.parametrize("d", [2, 3, 12])
def test_cosines_inside_and_outside_the_cap_are_those_of_the_sphere(d):
    mechanism, n = PrivUnit(1.5, d), 20_000
    u = unit(d)
    cosine = mechanism.privatize(np.tile(u, (n, 1)), generator(6, d)) @ u / mechanism.norm
    cap, half = mechanism.cap, stats.beta((d - 1) / 2, (d - 1) / 2)
    inside = cosine >= cap.gamma
    assert abs(inside.mean() - cap.p) < 4 * math.sqrt(cap.p * (1 - cap.p) / n)
    low = half.cdf((1 + cap.gamma) / 2)
    for part, lo, hi in ((cosine[inside], low, 1), (cosine[~inside], 0, low)):
        uniform = (half.cdf((1 + part) / 2) - lo) / (hi - lo)
        assert stats.kstest(uniform, "uniform").pvalue > 1e-4


def test_a_short_vector_in_the_ball_is_hidden_and_still_unbiased():
    mechanism, n = Ball(2.0, 4, radius=5.0), 60_000
    for x in (np.zeros(4), np.array([0.5, -1.0, 0.0, 2.0])):
        y = mechanism.privatize(np.tile(x, (n, 1)), generator(7))
        assert (np.abs(y.mean(0) - x) < 5 * y.std(0) / math.sqrt(n)).all()
    assert mechanism.worst_variance == pytest.approx(mechanism.variance(np.zeros(4)))


@each_kind
def test_shapes_are_kept(kind):
    mechanism = kind(1.0, 3)
    for shape in ((3,), (2, 3), (2, 4, 3)):
        x = np.broadcast_to(unit(3), shape)
        assert mechanism.privatize(x, generator(0)).shape == shape
        assert mechanism.variance(x).shape == shape[:-1]
    assert mechanism.privatize(np.ones((0, 3)), generator(0)).shape == (0, 3)


@each_kind
def test_wrong_arguments_are_refused(kind):
    with pytest.raises(ValueError, match="epsilon=0 must be >= 1e-06"):
        kind(0, 3)
    with pytest.raises(ValueError, match=r"d=0 must be an integer >= "):
        kind(1.0, 0)
    mechanism = kind(1.0, 3)
    with pytest.raises(ValueError, match="its last size must be d=3"):
        mechanism.privatize(np.zeros(4), generator(0))
    with pytest.raises(ValueError, match="not finite"):
        mechanism.privatize([1.0, np.nan, 0.0], generator(0))
    with pytest.raises(ValueError, match=r"vector of norm 2"):
        mechanism.privatize([2.0, 0.0, 0.0], generator(0))
    if kind is Ball:
        with pytest.raises(ValueError, match="radius=0 must be in"):
            Ball(1.0, 3, radius=0)
    else:
        with pytest.raises(ValueError, match="every norm must be 1"):
            mechanism.privatize([0.5, 0.0, 0.0], generator(0))
