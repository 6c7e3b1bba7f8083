"""Bulyan against its two stages written as loops."""

import numpy as np
import pytest
import torch

from fedsieve.aggregation import Bulyan
from fedsieve.aggregation._gram import squared_distances
from fedsieve.aggregation.bulyan import selected


def slow(X, f):
    left, chosen = list(range(len(X))), []
    for _ in range(len(X) - 2 * f):
        scores = []
        for i in left:
            D = sorted(((X[i] - X[j]) ** 2).sum() for j in left if j != i)
            scores.append(sum(D[: max(1, len(left) - f - 2)]))
        chosen.append(left.pop(int(np.argmin(scores))))
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
