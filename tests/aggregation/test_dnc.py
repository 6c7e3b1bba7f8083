"""DnC against singular vectors of the sampled coordinates."""

import numpy as np
import pytest
import torch

from fedsieve.aggregation import DnC


def divided(X, f, num_iters, b, c, seed):
    n, k = X.shape
    rng = np.random.default_rng(seed)
    good = set(range(n))
    for _ in range(num_iters):
        at = np.sort(rng.choice(k, b, replace=False)) if b < k else np.arange(k)
        Z = X[:, at] - X[:, at].mean(0)
        scores = (Z @ np.linalg.svd(Z)[2][0]) ** 2
        still = good & set(np.argsort(scores)[: n - int(c * f)].tolist())
        if not still:
            break
        good = still
    return sorted(good)


@pytest.mark.parametrize("c", [0.6, 1.0, 1.5])
@pytest.mark.parametrize(("num_iters", "b"), [(1, 1000), (5, 12), (3, 30)])
def test_equals_the_singular_vectors(num_iters, b, c):
    rng = np.random.default_rng(b)
    for seed in range(10):
        X = rng.normal(size=(13, 40)) + 5
        X[:3] += rng.normal(size=40) * rng.uniform(0, 2)
        rule = DnC(f=3, num_iters=num_iters, b=b, c=c, seed=seed)
        good = divided(X, 3, num_iters, b, c, seed)
        assert np.flatnonzero(rule.aggregate(X).weights).tolist() == good
        np.testing.assert_allclose(rule(X), X[good].mean(0))


@pytest.mark.parametrize("far", 10.0 ** np.arange(3, 31, 3))
def test_far_rows_are_set_aside_and_count_among_the_dropped(far):
    rng = np.random.default_rng(0)
    for _ in range(50):
        n, k = int(rng.integers(7, 15)), int(rng.integers(3, 30))
        f = int(rng.integers(1, (n - 1) // 2 + 1))
        X = rng.normal(size=(n, k))
        rows = int(rng.integers(1, f + 1))
        X[:rows] = far * rng.normal(size=k) * 10.0 ** rng.uniform(0, 8, (rows, 1))
        X[:rows] *= rng.choice([-1, 1], (rows, 1))
        found = DnC(f=f).aggregate(X)
        kept = np.flatnonzero(found.weights)
        # of the others, as many as are left to drop
        assert (kept - rows).tolist() == divided(X[rows:], f - rows, 1, k, 1.0, 0)
        np.testing.assert_allclose(found.vector, X[kept].mean(0), atol=1e-12)


def test_whatever_f_rows_do_the_rest_is_within_ten_diameters():
    rng = np.random.default_rng(1)
    for _ in range(300):
        f = int(rng.integers(1, 4))
        n, k = int(rng.integers(2 * f + 1, 4 * f + 4)), int(rng.integers(1, 12))
        X = rng.normal(size=(n, k)) + rng.choice([0, 1e4])
        X[:f] += rng.normal(size=(f, k)) * 10.0 ** rng.uniform(-1, 30, (f, 1))
        diameter = np.linalg.norm(X[f:, None] - X[f:], axis=2).max()
        rule = DnC(f=f, num_iters=3, b=max(k // 2, 1), c=float(rng.uniform(0.3, 1.2)))
        kept = np.flatnonzero(rule.aggregate(X).weights)
        away = np.linalg.norm(X[kept, None] - X[f:], axis=2).min(axis=1)
        assert away.max() <= 10 * diameter


def test_a_far_row_outside_of_the_samples_is_seen():
    X = np.random.default_rng(2).normal(size=(9, 500))
    X[0, 499] = 1e20
    for seed in range(5):
        assert DnC(f=2, b=10, num_iters=1, seed=seed).aggregate(X).weights[0] == 0


def test_same_seed_same_result_another_seed_another_sample():
    X = torch.randn(15, 200, generator=torch.Generator().manual_seed(0))
    outs = [DnC(f=3, b=10, seed=seed)(X) for seed in (1, 1, 2)]
    assert torch.equal(outs[0], outs[1])
    assert not torch.equal(outs[0], outs[2])


def test_somebody_is_always_left():
    X = torch.randn(5, 300, generator=torch.Generator().manual_seed(0))
    for seed in range(20):
        weights = DnC(f=2, b=5, num_iters=50, seed=seed).aggregate(X).weights
        assert weights.sum() == pytest.approx(1)


def test_weighted_means():
    rng = np.random.default_rng(0)
    X, p = rng.normal(size=(9, 5)), rng.uniform(1, 1.2, 9)
    X[:2] += 4
    Z = X - p @ X / p.sum()
    v = np.linalg.eigh((p[:, None] * Z).T @ Z)[1][:, -1]
    good = np.argsort((Z @ v) ** 2)[:7]
    np.testing.assert_allclose(DnC(f=2)(X, weights=p), p[good] @ X[good] / p[good].sum())


def test_legal_f_depends_on_c():
    assert DnC(f=1).breakdown(9) == 4
    assert DnC(f=1, c=3.0).breakdown(9) == 2


@pytest.mark.parametrize(
    "wrong", [{"num_iters": 0}, {"b": 0}, {"b": 2.5}, {"c": 0.0}, {"c": np.inf}, {"seed": -1}]
)
def test_arguments_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}=.* must be"):
        DnC(f=1, **wrong)
