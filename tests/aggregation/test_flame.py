"""FLAME against its definition, and its cluster against scikit-learn's HDBSCAN."""

import numpy as np
import pytest
import torch
from sklearn.cluster import HDBSCAN

from fedsieve.aggregation import FLAME
from fedsieve.aggregation.flame import cosine_distances, majority


def distances(X):
    U = X / np.linalg.norm(X, axis=1, keepdims=True)
    c = np.clip(1 - U @ U.T, 0, 2)
    np.fill_diagonal(c, 0)
    return (c + c.T) / 2


def admitted(X):
    tree = HDBSCAN(
        min_cluster_size=max(len(X) // 2 + 1, 2),
        min_samples=1,
        metric="precomputed",
        allow_single_cluster=True,
        copy=True,
    )
    return np.flatnonzero(tree.fit_predict(distances(X)) == 0)


@pytest.mark.parametrize(("n", "k"), [(4, 3), (9, 5), (20, 8), (31, 40)])
def test_the_cluster_is_that_of_hdbscan(n, k):
    rng = np.random.default_rng(n)
    for _ in range(30):
        X = rng.normal(size=(n, k)) + rng.uniform(0, 2)
        X[: n // 3] += rng.normal(size=k) * 3
        assert majority(distances(X)).tolist() == admitted(X).tolist()


def test_equals_the_definition():
    rng = np.random.default_rng(2)
    for _ in range(20):
        X = rng.normal(size=(11, 6)) + 1
        X[:3] = -4 * X[:3]
        norms, A = np.linalg.norm(X, axis=1), admitted(X)
        clipped = np.minimum(1, np.median(norms) / norms)[:, None] * X
        found = FLAME(f=3).aggregate(X)
        np.testing.assert_allclose(found.vector, clipped[A].mean(0))
        assert np.flatnonzero(found.weights).tolist() == A.tolist()


def test_small_angles_keep_their_digits():
    rng = np.random.default_rng(0)
    X = 1e4 + 1e-3 * rng.normal(size=(5, 100))
    Z = np.vstack([X, np.zeros(100)]) - X[0]
    c, norms = cosine_distances(Z @ Z.T)
    across = (X - X.mean(1, keepdims=True)).astype(np.longdouble)  # the angle seen from (1, ..., 1)
    expected = ((across[:, None] - across[None]) ** 2).sum(2) / (2 * 100 * 1e8)
    np.testing.assert_allclose(c, expected.astype(float), rtol=1e-3)
    np.testing.assert_allclose(norms, np.linalg.norm(X, axis=1))


def test_a_row_of_zeros_has_no_direction():
    c, _ = cosine_distances(np.diag([0.0, 1.0, 4.0, 0.0]))
    np.testing.assert_allclose(c, [[0, 1, 1], [1, 0, 1], [1, 1, 0]])


@pytest.mark.parametrize("scale", [1e-310, 1e-320, 1e-200, 10.0])
@pytest.mark.parametrize("short", [0.0, 1e-3])
def test_tiny_rows_and_zeros_are_clipped_without_overflow(scale, short):
    X = np.random.default_rng(3).normal(size=(9, 40)) + 5
    X[0] *= short
    out = FLAME(f=2)(X * scale)
    assert np.isfinite(out).all()
    np.testing.assert_allclose(out / scale, FLAME(f=2)(X), atol=5 * max(2.0**-1074 / scale, 1e-15))


def test_noise_has_the_stated_size_and_seed():
    X = torch.ones(5, 10_000, dtype=torch.float64)
    noise = FLAME(f=1, lambda_=0.01, seed=3)(X) - 1
    assert noise.std().item() == pytest.approx(0.01 * 100, rel=5 / np.sqrt(2 * 10_000))
    assert torch.equal(FLAME(f=1, lambda_=0.01, seed=3)(X) - 1, noise)
    assert not torch.equal(FLAME(f=1, lambda_=0.01, seed=4)(X) - 1, noise)


@pytest.mark.parametrize("wrong", [{"lambda_": -0.1}, {"lambda_": np.nan}, {"seed": -1}])
def test_arguments_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}=.* must be"):
        FLAME(f=1, **wrong)


def test_a_far_row_beside_rows_of_length_zero_overflows_nothing():
    stack = torch.full((9, 3), 1e-44)
    stack[:2], stack[2] = 1e38, 0.0
    out = FLAME(f=2)(stack)  # a warning would be an error
    assert out.abs().max() <= 1e-44
