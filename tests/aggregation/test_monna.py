"""MoNNA against a sort by distance to the pivot."""

import numpy as np
import pytest

from fedsieve.aggregation import NNM, Bucketing, Clipping, MoNNA, TooManyFaultyClients


def test_averages_the_nearest_to_the_pivot():
    rng = np.random.default_rng(0)
    for _ in range(30):
        X, pivot = rng.normal(size=(9, 3)), int(rng.integers(9))
        nearest = np.argsort(((X - X[pivot]) ** 2).sum(1))[:7]
        assert pivot in nearest
        np.testing.assert_allclose(MoNNA(2, pivot)(X), X[nearest].mean(0))


def test_unusable_rows_before_the_pivot_do_not_move_it():
    X = np.random.default_rng(1).normal(size=(9, 3))
    bad = X.copy()
    bad[1] = np.nan
    np.testing.assert_allclose(MoNNA(2, 5)(bad), MoNNA(1, 4)(np.delete(X, 1, axis=0)))


def test_mixed_messages_are_compared_with_the_pivots_own():
    X = np.random.default_rng(2).normal(size=(9, 3))
    D = ((X[:, None] - X) ** 2).sum(2)
    Y = np.stack([X[np.argsort(row)[:7]].mean(0) for row in D])
    nearest = np.argsort(((Y - X[3]) ** 2).sum(1))[:7]
    np.testing.assert_allclose((NNM(2) >> MoNNA(2, 3))(X), Y[nearest].mean(0))


@pytest.mark.parametrize("pivot", [3, 4, 8])
def test_the_pivot_is_a_client_though_there_are_fewer_buckets(pivot):
    X = np.random.default_rng(3).normal(size=(9, 3))
    dealt = X[np.random.default_rng(5).permutation(9)]
    Y = np.stack([bucket.mean(0) for bucket in np.split(dealt, [2, 4, 6, 8])])
    nearest = np.argsort(((Y - X[pivot]) ** 2).sum(1))[:3]
    for pre in (Bucketing(s=2, seed=5), Clipping(C=1.0) >> Bucketing(s=2, seed=5)):
        rule = pre >> MoNNA(2, pivot)
        rule.check(9)
        if isinstance(pre, Bucketing):
            np.testing.assert_allclose(rule(X), Y[nearest].mean(0))
        with pytest.raises(ValueError, match=r"pivot=9 with n=9 clients; allowed are 0\.\.8"):
            (pre >> MoNNA(2, 9)).check(9)
        with pytest.raises(ValueError, match="does not allow f=3 with n=9; largest legal f is 2"):
            (pre >> MoNNA(3, pivot)).check(9)


def test_the_pivot_is_a_client_though_others_are_absent():
    X = np.random.default_rng(4).normal(size=(9, 3))
    weights = np.array([1, 0, 1, 1, 0, 1, 1, 1, 1])
    heard = np.flatnonzero(weights)
    np.testing.assert_allclose(MoNNA(2, 8)(X, weights), MoNNA(2, 6)(X[heard]))
    with pytest.raises(TooManyFaultyClients, match="trusted pivot=4 is unusable"):
        MoNNA(2, 4)(X, weights)


def test_fails_closed_without_its_pivot():
    X = np.ones((9, 3))
    X[4, 0] = np.inf
    with pytest.raises(TooManyFaultyClients, match="trusted pivot=4 is unusable"):
        MoNNA(2, 4)(X)
    with pytest.raises(ValueError, match=r"pivot=9 with n=9 clients; allowed are 0\.\.8"):
        MoNNA(2, 9)(np.ones((9, 3)))
    with pytest.raises(ValueError, match="pivot=-1 must be an integer >= 0"):
        MoNNA(2, -1)
