"""The mean, plain and weighted."""

import numpy as np
import pytest
import torch

from fedsieve.aggregation import Mean, TooManyFaultyClients


def test_weighted_mean():
    X, p = np.random.default_rng(0).normal(size=(6, 4)), np.arange(6.0)
    np.testing.assert_allclose(Mean()(X, weights=p), np.average(X, axis=0, weights=p))
    found = Mean(f=1).aggregate(torch.from_numpy(X), weights=p.tolist())
    np.testing.assert_allclose(found.weights, p / p.sum())


def test_huge_weights_do_not_overflow():
    assert Mean()(np.array([[1.0], [3.0]]), weights=[1e308, 1e308]) == 2


def test_weights_of_unusable_rows_go_to_the_others():
    X = np.array([[1.0], [np.nan], [4.0]])
    assert Mean(f=1)(X, weights=[1, 5, 2]) == pytest.approx(3)
    with pytest.raises(TooManyFaultyClients, match="1 of 1 rows are unusable"):
        Mean(f=1)(X, weights=[0, 5, 0])


def test_a_strict_mean_fails_closed():
    with pytest.raises(TooManyFaultyClients, match="1 of 3 rows are unusable"):
        Mean()(np.array([[1.0], [np.nan], [4.0]]))


def test_the_sum_of_large_values_does_not_overflow():
    assert Mean()(np.full((20, 2), 3e38, np.float32)).max() < np.inf
