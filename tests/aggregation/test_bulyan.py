"""Bulyan against its two stages written as loops."""

import numpy as np
import pytest
import torch

from fedsieve.aggregation import Bulyan
from fedsieve.aggregation._gram import squared_distances
from fedsieve.aggregation.bulyan import selected


def slow(X, f):
    left, chosen, at_first = list(range(len(X))), [], None
    for _ in range(len(X) - 2 * f):
        scores = []
        for i in left:
            D = sorted(((X[i] - X[j]) ** 2).sum() for j in left if j != i)
            scores.append(sum(D[: max(1, len(left) - f - 2)]))
        at_first = dict(zip(left, scores, strict=True)) if at_first is None else at_first
        tied = [
            i for i, score in zip(left, scores, strict=True) if score <= min(scores) * (1 + 1e-9)
        ]
        chosen.append(min(tied, key=at_first.get))
        left.remove(chosen[-1])
    Y, beta = X[chosen], len(X) - 4 * f
    middle = np.median(Y, axis=0)
    near = np.argsort(abs(Y - middle), axis=0)[:beta]
    return sorted(chosen), np.take_along_axis(Y, near, axis=0).mean(0)


@pytest.mark.parametrize(("n", "f"), [(3, 0), (7, 1), (8, 1), (11, 2), (16, 3), (25, 5)])
def test_equals_its_two_stages(n, f):
    rng = np.random.default_rng(n)
    for _ in range(20):
        X = rng.normal(size=(n, 7))
        X[:f] += rng.uniform(0, 3)
        chosen, expected = slow(X, f)
        assert selected(squared_distances(X @ X.T), f).tolist() == chosen
        np.testing.assert_allclose(Bulyan(f)(X), expected, atol=1e-12)


def slow_by_mass(X, p, f):
    """Both stages by loops over masses that sum to 1."""
    h, n = np.sort(p)[-f:].sum(), len(X)
    left, picked, at_first = dict(enumerate(p)), {}, None
    D = ((X[:, None] - X) ** 2).sum(2)
    while (missing := 1 - 2 * h - sum(picked.values())) > 1e-12:
        amount, scores = max(sum(left.values()) - h - 1 / n, 2 / n), {}
        for i in left:
            room, scores[i] = amount, 0.0
            for j in sorted(left, key=lambda j, i=i: (j != i, D[i, j])):
                scores[i] += min(room, left[j]) * D[i, j]
                room -= min(room, left[j])
        at_first = scores if at_first is None else at_first
        tied = [i for i in scores if scores[i] <= min(scores.values()) * (1 + 1e-9)]
        best = min(tied, key=at_first.get)
        picked[best] = min(left.pop(best), missing)
    at, mass = np.array(list(picked)), np.array(list(picked.values()))
    out = np.empty(X.shape[1])
    for c, values in enumerate(X[at].T):
        order = np.argsort(values)
        median = values[order][np.cumsum(mass[order]) >= mass.sum() / 2][0]
        room, out[c] = 1 - 4 * h, 0.0
        for j in np.argsort(abs(values - median)):
            out[c] += min(room, mass[j]) * values[j] / (1 - 4 * h)
            room -= min(room, mass[j])
    return out


@pytest.mark.parametrize(("n", "f"), [(7, 1), (8, 1), (11, 2), (16, 3)])
def test_client_weights_count_messages_by_mass(n, f):
    rng = np.random.default_rng(n)
    for _ in range(20):
        X, p = rng.normal(size=(n, 5)), rng.uniform(0.7, 1.1, n)
        X[:f] += rng.uniform(0, 3)
        np.testing.assert_allclose(Bulyan(f)(X, p), slow_by_mass(X, p / p.sum(), f), atol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("n", "f"), [(7, 1), (8, 1), (11, 2), (15, 3)])
def test_the_order_of_clients_does_not_matter_though_the_last_pick_is_a_tie(n, f, weighted):
    rng = np.random.default_rng(n)
    for _ in range(100):
        X, p = rng.normal(size=(n, 3)), rng.uniform(0.95, 1.05, n) if weighted else np.ones(n)
        order = rng.permutation(n)
        found = Bulyan(f)(X[order], p[order] if weighted else None)
        np.testing.assert_allclose(found, Bulyan(f)(X, p if weighted else None), atol=1e-12)


def test_no_value_that_counts_is_beyond_the_honest_ones():
    """Heavy clients up to the limit, anywhere: the aggregate stays among the honest values."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        X, p = rng.normal(size=(12, 3)), rng.uniform(0.9, 1.1, 12)
        p[:2] = 1.4
        assert p[:2].sum() / p.sum() < Bulyan(2).weight_limit(12)
        X[:2] = rng.normal(size=3) * 10.0 ** rng.uniform(-1, 9)
        out, median = Bulyan(2)(X, p), np.median(X[2:], axis=0)
        assert (abs(out - median) <= 2 * abs(X[2:] - median).max(0)).all()


def test_shares_count_coordinates():
    X = torch.randn(11, 500, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    X[0] = 1e6
    weights = Bulyan(2).aggregate(X).weights
    assert weights[0] == 0
    assert (weights > 0).sum() == 7
    # 7 selected, 3 of them kept in a coordinate: about 1/7 each, +-5 standard errors
    assert (weights[weights > 0] - 1 / 7).abs().max() < 5 * (1 / 7 * 6 / 7 / 500) ** 0.5


def test_legality():
    assert [Bulyan(0).breakdown(n) for n in (2, 3, 6, 7, 10, 11)] == [-1, 0, 0, 1, 1, 2]
