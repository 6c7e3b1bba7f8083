"""MDA against all subsets."""

from itertools import combinations

import numpy as np
import pytest

from fedsieve.aggregation import MDA
from fedsieve.aggregation.mda import closest


def brute(X, f):
    """Smallest diameter, then smallest sum, then first."""
    D = ((X[:, None] - X) ** 2).sum(2)
    subsets = [list(S) for S in combinations(range(len(X)), len(X) - f)]
    return min(subsets, key=lambda S: (D[np.ix_(S, S)].max(), round(D[np.ix_(S, S)].sum(), 9), S))


@pytest.mark.parametrize("whole", [False, True])
def test_equals_brute_force(whole):
    rng = np.random.default_rng(0)
    for _ in range(150):
        n = int(rng.integers(1, 11))
        f = int(rng.integers(0, (n - 1) // 2 + 1))
        # whole numbers have many ties
        X = rng.integers(0, 4, (n, 2)).astype(float) if whole else rng.normal(size=(n, 2))
        D = ((X[:, None] - X) ** 2).sum(2)
        found, expected = closest(D, f), brute(X, f)
        assert len(found) == n - f
        assert D[np.ix_(found, found)].max() == D[np.ix_(expected, expected)].max()
        if not whole:
            assert found == expected
            np.testing.assert_allclose(MDA(f)(X), X[expected].mean(0))


def test_finds_the_cluster_where_all_subsets_would_be_too_many():
    X = np.random.default_rng(1).normal(size=(60, 30))
    X[::5] += 4
    np.testing.assert_allclose(MDA(12)(X), np.delete(X, slice(0, 60, 5), axis=0).mean(0))


def test_an_infeasible_search_is_refused_with_what_to_use():
    with pytest.raises(ValueError, match="f up to 15, or another rule, such as CAF or NNM"):
        MDA(20)(np.ones((100, 2)))
    MDA(15).check(1000)
    MDA(8).check(17)


def test_client_weights_weigh_the_mean_and_silence():
    X = np.array([[0.0], [1.0], [2.0], [3.0], [50.0], [-60.0]])
    out = MDA(1)(X, weights=[1, 1, 1, 2, 1, 0])
    np.testing.assert_allclose(out, [(0 + 1 + 2 + 6) / 5])
