"""The trimmed mean against a sort in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsieve.aggregation import TrimmedMean


def trimmed(X, f):
    return np.sort(X.astype(np.float64), axis=0)[f : len(X) - f].mean(0)


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 70), k=st.integers(1, 40), seed=st.integers(0, 99), data=st.data())
def test_equals_the_sorted_mean(n, k, seed, data):
    f = data.draw(st.integers(0, (n - 1) // 2))
    X = np.random.default_rng(seed).integers(-3, 4, (n, k)).astype(np.float64)
    np.testing.assert_allclose(TrimmedMean(f=f)(X), trimmed(X, f), rtol=0, atol=1e-14)


@pytest.mark.parametrize("n", [20, 80])
def test_column_blocks_join_seamlessly(n):
    X = np.random.default_rng(0).normal(size=(n, 60_000)).astype(np.float32)
    np.testing.assert_allclose(TrimmedMean(f=4)(X), trimmed(X, 4), atol=1e-6)


def test_far_rows_cost_no_digits():
    X = np.random.default_rng(1).normal(size=(9, 50)).astype(np.float32)
    X[:2] = [[3e38], [-3e38]]
    np.testing.assert_allclose(TrimmedMean(f=2)(X), trimmed(X, 2), atol=1e-6)


def test_shares_are_the_coordinates_in_which_a_client_was_kept():
    X = torch.tensor([[0.0, 0, 9], [1, 1, 1], [2, 2, 2], [3, 3, 3], [9, 4, 0]])
    found = TrimmedMean(f=1).aggregate(X)
    torch.testing.assert_close(found.weights, torch.tensor([0, 1, 1, 1, 0]).double() / 3)


def test_equal_values_at_the_border_share_their_place():
    X = torch.tensor([[1.0], [1], [1], [5], [9]])
    found = TrimmedMean(f=2).aggregate(X)
    torch.testing.assert_close(found.weights, torch.tensor([1.0, 1, 1, 0, 0]).double() / 3)


@given(seed=st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_client_weights_act_like_copies_of_the_client(seed):
    rng = np.random.default_rng(seed)
    copies = rng.integers(1, 4, 9)
    X = rng.normal(size=(9, 5))
    f = 2
    held = int(np.sort(copies)[-f:].sum())
    if 2 * held >= copies.sum():
        return
    repeated = np.repeat(X, copies, axis=0)
    found = TrimmedMean(f=f).aggregate(X, weights=copies / 2)
    np.testing.assert_allclose(found.vector, trimmed(repeated, held), atol=1e-12)
    assert found.weights.sum() == pytest.approx(1)


def test_client_weights_in_blocks():
    X = np.random.default_rng(3).normal(size=(9, 70_000)).astype(np.float32)
    out = TrimmedMean(f=2)(X, weights=np.ones(9))
    np.testing.assert_allclose(out, trimmed(X, 2), atol=1e-6)


def test_client_weights_without_an_honest_majority_are_refused():
    with pytest.raises(ValueError, match=r"f=2 heaviest of 5 clients hold 0\.667"):
        TrimmedMean(f=2)(torch.ones(5, 3), weights=[5, 1, 1, 1, 1.0])
