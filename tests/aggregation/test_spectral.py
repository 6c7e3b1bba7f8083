"""The top eigenpair from the Gram against the covariance matrix itself."""

import numpy as np
import pytest

from fedsieve.aggregation import CAF, _spectral
from fedsieve.aggregation._spectral import spread


def direct(X, w):
    Z = X - w @ X
    values, vectors = np.linalg.eigh((w[:, None] * Z).T @ Z)
    return values[-1], (Z @ vectors[:, -1]) ** 2 * (w > 0)


@pytest.mark.parametrize(("n", "k"), [(2, 1), (9, 4), (40, 60), (300, 20), (400, 500)])
def test_equals_the_eigenpair_of_the_covariance(n, k):
    rng = np.random.default_rng(n)
    X = rng.normal(size=(n, k)) * rng.uniform(0.5, 2, k) + 3
    w = rng.exponential(size=n) * (rng.random(n) < 0.8)
    w[:2] = 1
    w /= w.sum()
    variance, tau = direct(X, w)
    along = spread(X @ X.T, w)
    assert along.variance == pytest.approx(variance, rel=1e-10)
    np.testing.assert_allclose(along.tau, tau, rtol=1e-6, atol=1e-9 * tau.max())


@pytest.mark.parametrize("case", ["noise", "scales", "block"])
def test_lanczos_equals_lapack_through_a_whole_filter(case, monkeypatch):
    rng = np.random.default_rng(5)
    n, f = 300, 30
    X = rng.normal(size=(n, 400))
    if case == "scales":
        X[:f] *= 1.5 ** np.arange(f)[:, None]
    if case == "block":  # two groups that know nothing of each other
        X[:150, 200:], X[150:, :200] = 0, 0
        X[:f] *= 3
    G = X @ X.T
    w = CAF(f=f).weights(G)
    monkeypatch.setattr(_spectral, "DENSE", n)
    np.testing.assert_allclose(w, CAF(f=f).weights(G), atol=1e-10)


@pytest.mark.parametrize("n", [5, 300])
def test_equal_rows_do_not_spread(n):
    w = np.full(n, 1 / n)
    for G in (np.zeros((n, n)), np.full((n, n), 7.3)):
        assert spread(G, w).none
    alone = np.zeros(n)
    alone[3] = 1
    assert spread(np.eye(n), alone).none


def test_turns_leave_out_rows_without_weight():
    rng = np.random.default_rng(2)
    X = rng.normal(size=(300, 40))
    turns = _spectral.Turns(X @ X.T)
    for heard in (300, 295, 270, 30):
        w = np.where(np.arange(300) < heard, 1 / heard, 0)
        variance, tau = direct(X, w)
        along = turns.spread(w)
        assert along.variance == pytest.approx(variance, rel=1e-10)
        np.testing.assert_allclose(along.tau, tau, rtol=1e-6, atol=1e-9 * tau.max())
