"""The no-regret filter on the Gram against the one on the covariance matrix."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from fedsieve.aggregation import NoRegret
from fedsieve.aggregation.no_regret import capped


def projected(c, most):
    """min(most, t c) with the t that makes it sum to 1."""
    t = brentq(lambda t: np.minimum(most, t * c).sum() - 1, 0, 1e6, xtol=1e-15, rtol=1e-14)
    return np.minimum(most, t * c)


def filtered(X, f):
    n = len(X)
    D = ((X[:, None] - X[None]) ** 2).sum(2)
    scores = [np.sort(np.delete(D[i], i))[: n - f - 1].sum() for i in range(n)]
    X = X[np.sort(np.argsort(scores)[: n - f])]
    D = ((X[:, None] - X[None]) ** 2).sum(2)
    c = np.full(n - f, 1 / (n - f))
    for _ in range(2 * f):
        Z = X - c @ X
        v = np.linalg.eigh((c[:, None] * Z).T @ Z)[1][:, -1]
        c = c * (1 - 0.5 / D.max() * (Z @ v) ** 2)
        c = projected(c, np.full(n - f, 1 / ((1 - f / n) * (n - f))))
    return c @ X


@pytest.mark.parametrize(("n", "f", "k"), [(5, 1, 3), (9, 2, 7), (20, 4, 30)])
def test_equals_the_filter_on_the_covariance(n, f, k):
    rng = np.random.default_rng(n * k)
    for _ in range(20):
        X = rng.normal(size=(n, k)) * rng.uniform(0.1, 2, k)
        X[:f] += rng.normal(size=k) * rng.uniform(0, 5)
        np.testing.assert_allclose(NoRegret(f=f)(X), filtered(X, f), rtol=1e-7, atol=1e-9)


@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=12), st.floats(1.001, 2))
def test_projection_is_a_scaling_with_a_cap(masses, room):
    c = np.array(masses)
    most = np.full(len(c), room / len(c))
    found = capped(c, most)
    assert found.sum() == pytest.approx(1)
    np.testing.assert_allclose(found, projected(c, most), rtol=1e-7, atol=1e-9)


def test_f_rows_in_one_place_are_outvoted_by_one_more():
    X = np.vstack([np.zeros((3, 2)), np.full((2, 2), 9.0)])
    np.testing.assert_allclose(NoRegret(f=2)(X), 0)
    X[:3] += np.random.default_rng(0).normal(size=(3, 2))
    assert np.linalg.norm(NoRegret(f=2)(X) - X[:3].mean(0)) < 2


def test_client_weights_cap_the_shares():
    X = np.random.default_rng(0).normal(size=(8, 3))
    p = np.array([2, 1, 1, 1, 1, 1, 1, 1]) / 9
    w = NoRegret(f=2).aggregate(X, weights=p).weights.numpy()
    kept = p * (w > 0)
    assert (w <= kept / kept.sum() / (1 - 3 / 9) + 1e-12).all()


def test_scales_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"sigma=-1.0 must be finite and >= 0"):
        NoRegret(f=1, sigma=-1.0)
