"""The geometric median against a general minimiser, and RFA's fixed steps."""

import numpy as np
import pytest
from scipy.optimize import minimize

from fedsieve.aggregation import Facts, GeometricMedian


def objective(X, z, alpha):
    return float(alpha @ np.linalg.norm(X - z, axis=1))


@pytest.mark.parametrize("weighted", [False, True])
def test_no_minimiser_finds_better(weighted):
    rng = np.random.default_rng(0)
    for _ in range(30):
        n = int(rng.integers(3, 12))
        X, f = rng.normal(size=(n, 3)), (n - 1) // 2
        X[:f] += rng.uniform(0, 5)
        p = rng.uniform(1, 1.2, n) if weighted else np.ones(n)
        f = f - 1 if weighted else f
        alpha = p / p.sum()
        z = GeometricMedian(f)(X, weights=p if weighted else None)
        found = minimize(
            lambda z, X=X, alpha=alpha: objective(X, z, alpha),
            X.mean(0),
            method="Nelder-Mead",
            options={"xatol": 1e-10, "fatol": 1e-13, "maxiter": 4000},
        )
        assert objective(X, z, alpha) <= found.fun * (1 + 1e-8)


def test_a_message_can_be_the_median():
    X = np.array([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    w = GeometricMedian(2).weights(X @ X.T)
    assert w.tolist() == [1, 0, 0, 0, 0]
    assert (GeometricMedian(2)(np.r_[X[:3], X[:1], X[:1]]) == 0).all()


def test_on_a_line_it_is_the_median():
    X = np.array([[1.0], [2.0], [4.0], [9.0], [1e30]])
    np.testing.assert_allclose(GeometricMedian(2)(X), [4.0])


def test_far_rows_do_not_stop_the_steps_early():
    X = np.random.default_rng(2).normal(size=(11, 4))
    near, far = X.copy(), X.copy()
    near[0], far[0] = 1e7, 1e30
    np.testing.assert_allclose(GeometricMedian(1)(far), GeometricMedian(1)(near), atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "scales", [(1e8, 1e30), (1e10, 1e27), (1e14, 1e32), (1e16, 1e33), (1e18, 1e36), (1e36, 1e18)]
)
def test_a_far_row_does_not_hide_another_on_its_line(scales, dtype):
    """From 1e8 on, only the direction of a row matters, to 1e-8."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        X, v, sign = rng.normal(size=(10, 5)), rng.normal(size=5), rng.choice([-1, 1])
        p = rng.uniform(1, 1.2, 10) if seed % 2 else None
        v /= np.linalg.norm(v)
        far = X.copy()
        X[0], X[1] = 1e8 * v, 1e8 * sign * v
        far[0], far[1] = scales[0] * v, scales[1] * sign * v
        found = GeometricMedian(2)(far.astype(dtype), p)
        np.testing.assert_allclose(found, GeometricMedian(2)(X, p), atol=1e-6)


def test_beside_far_rows_the_pulls_still_balance():
    """The gradient, whose terms are unit vectors however far a row is, vanishes."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(10, 5))
        X[0], X[1] = 1e-30 * rng.normal(size=5), 1e38 * rng.normal(size=5)
        X[2] = 10.0 ** rng.uniform(2, 36) * rng.normal(size=5)
        z = GeometricMedian(3)(X)
        away = np.linalg.norm(X - z, axis=1)
        if away.min() > 1e-3:  # else a row may be the median
            assert np.linalg.norm(((X - z) / away[:, None]).sum(0)) < 1e-6


@pytest.mark.parametrize("iterations", [1, 3])
def test_fixed_steps_are_weiszfelds_from_the_mean(iterations):
    rng = np.random.default_rng(3)
    X, alpha = rng.normal(size=(9, 4)), rng.uniform(1, 1.2, 9)
    alpha /= alpha.sum()
    z = alpha @ X
    for _ in range(iterations):
        beta = alpha / np.linalg.norm(X - z, axis=1)
        z = beta @ X / beta.sum()
    found = GeometricMedian(2, iterations=iterations)
    np.testing.assert_allclose(found(X, weights=alpha), z)
    assert found.kappa(9) is None


def test_a_far_row_takes_any_fixed_number_of_steps_away_with_it():
    """The fact is declared for the converged form alone, whose error has a bound."""
    X = np.random.default_rng(5).normal(size=(9, 4))
    for iterations in (1, 3, 10):
        fixed, converged = GeometricMedian(2, iterations=iterations), GeometricMedian(2)
        assert Facts.ROBUST not in fixed.facts
        assert Facts.ROBUST in converged.facts
        assert fixed.facts | Facts.ROBUST == converged.facts
        bound = np.sqrt(converged.kappa(9) * X[2:].var(axis=0).sum())
        errors = {}
        for rule in (fixed, converged):
            for far in 10.0 ** np.arange(1, 20):  # farther and farther, until the bound breaks
                X[:2] = far
                errors[rule] = np.linalg.norm(rule(X) - X[2:].mean(0))
                if errors[rule] > bound:
                    break
        assert errors[fixed] > bound >= errors[converged]


def test_a_client_without_weight_does_not_stop_the_steps():
    X = np.random.default_rng(6).normal(size=(9, 4))
    X[0] = 1e9
    weights = np.array([0.0] + [1.0] * 8)
    for rule in (GeometricMedian(2), GeometricMedian(2, nu=0.5, iterations=3)):
        assert np.array_equal(rule(X, weights), rule(X[1:], weights[1:]))


def test_nu_bounds_the_pull_of_near_messages():
    X = np.random.default_rng(4).normal(size=(9, 4))
    # with nu beyond all distances every step is a mean
    np.testing.assert_allclose(GeometricMedian(2, nu=1e9, iterations=1)(X), X.mean(0))


@pytest.mark.parametrize("setting", [{"nu": 0.0}, {"nu": np.nan}, {"iterations": 0}])
def test_settings_are_checked(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        GeometricMedian(1, **setting)
