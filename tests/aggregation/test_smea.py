"""SMEA against all subsets with d x d eigen-decompositions, and its coefficient by search."""

from itertools import combinations

import numpy as np
import pytest
import torch

from fedsieve.aggregation import SMEA, smea


def top(X, p):
    mu = p @ X / p.sum()
    return np.linalg.eigvalsh((p[:, None] * (X - mu)).T @ (X - mu) / p.sum())[-1]


def brute_force(X, f, p=None):
    n = len(X)
    p = np.ones(n) if p is None else np.asarray(p, float)
    subsets = [list(S) for S in combinations(range(n), n - f)]
    values = np.array([top(X[S], p[S]) for S in subsets])
    return subsets[int(np.flatnonzero(values <= values.min() * (1 + 1e-12))[0])]


def chosen(X, f, p=None):
    return np.flatnonzero(SMEA(f=f).aggregate(X, weights=p).weights.numpy()).tolist()


@pytest.mark.parametrize(("n", "f", "k"), [(5, 1, 1), (7, 3, 4), (8, 2, 30), (9, 3, 5), (11, 5, 3)])
def test_is_the_true_arg_min(n, f, k):
    rng = np.random.default_rng(n * k)
    for draw in range(20):
        X = rng.normal(size=(n, k)) + 3
        X[:f] += rng.normal(size=k) * rng.uniform(0, 3)
        X = X[rng.permutation(n)]
        p = None if draw % 2 else rng.uniform(1, 1.1, n)
        expected = brute_force(X, f, p)
        assert chosen(X, f, p) == expected
        w = np.ones(n) if p is None else p
        np.testing.assert_allclose(
            SMEA(f=f)(X, weights=p), w[expected] @ X[expected] / w[expected].sum()
        )


@pytest.mark.parametrize("k", [3, 100])
def test_far_rows_of_several_scales_are_all_removed(k):
    X = np.random.default_rng(1).normal(size=(11, k))
    X[2], X[4], X[9] = 1e60, -1e20 * X[4], 1e3 * X[9]
    assert chosen(X, 3) == [0, 1, 3, 5, 6, 7, 8, 10]


def test_the_first_of_equally_good_subsets_wins():
    assert chosen(np.eye(7), 2) == [0, 1, 2, 3, 4]
    assert chosen(np.array([[1.0], [0], [1], [0], [1], [0]]), 2) == brute_force(
        np.array([[1.0], [0], [1], [0], [1], [0]]), 2
    )


def test_where_all_subsets_tie_hardly_any_costs_an_eigenvalue(monkeypatch):
    asked = []
    eigenvalues = smea._eigenvalues
    monkeypatch.setattr(
        smea, "_eigenvalues", lambda G, w, S: asked.append(len(S)) or eigenvalues(G, w, S)
    )
    for X in (np.eye(14), 1e10 * np.eye(14), np.zeros((14, 2)), np.full((14, 3), 7.0)):
        assert chosen(X, 4) == list(range(10))
    rng = np.random.default_rng(6)
    for X in (np.linalg.qr(rng.normal(size=(14, 14)))[0], 0.1 * np.linalg.qr(np.eye(14) + 1)[0]):
        assert chosen(X, 4) == list(range(10))
    assert sum(asked) < 50


@pytest.mark.parametrize("better", [0, 5, 13])
def test_the_first_subset_is_no_answer_where_another_is_better(better):
    X = np.eye(14)
    X[better] *= 3
    assert chosen(X, 4) == brute_force(X, 4)
    X[better] /= 9  # all subsets with it are better, and tie
    assert chosen(X, 4) == brute_force(X, 4)


def test_many_subsets_in_several_chunks():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(20, 50))
    X[[1, 5, 8, 19]] = X.mean(0) + 1.5 * X.std(0)
    assert chosen(X, 4) == [i for i in range(20) if i not in (1, 5, 8, 19)]


def test_too_many_subsets_are_refused_with_the_way_out():
    with pytest.raises(ValueError, match=r"1\.03e\+10 subsets of n=50 .* f <= 4 \(CAF"):
        SMEA(f=10)(torch.ones(50, 2))


def test_error_is_bounded_by_the_spectrum_of_every_honest_set():
    """The declared coefficient in the spectral form, which implies the trace form."""
    rng = np.random.default_rng(4)
    worst = 0.0
    for _ in range(1500):
        n = int(rng.integers(3, 9))
        f, k = int(rng.integers(1, (n - 1) // 2 + 1)), int(rng.integers(1, 6))
        X = rng.normal(size=(n, k)) * rng.uniform(0.1, 2, k)
        axis = np.linalg.svd(X[f:] - X[f:].mean(0))[2][0]
        X[:f] = X[f:].mean(0) + axis * rng.uniform(0, 6) + rng.normal(size=(f, k)) * rng.choice(2)
        out = SMEA(f=f)(X)
        for S in map(list, combinations(range(n), n - f)):
            error = out - X[S].mean(0)
            worst = max(worst, error @ error / (SMEA(f=f).kappa(n) * top(X[S], np.ones(n - f))))
    assert 0.3 < worst <= 1
