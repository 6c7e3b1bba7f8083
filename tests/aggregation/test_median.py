"""The median against numpy's, the weighted median against repeated rows."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsieve.aggregation import Median


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 70), k=st.integers(1, 40), seed=st.integers(0, 99))
def test_equals_numpys(n, k, seed):
    X = np.random.default_rng(seed).integers(-3, 4, (n, k)).astype(np.float64)
    assert np.array_equal(Median(f=(n - 1) // 2)(X), np.median(X, axis=0))


def test_even_numbers_average_the_two_in_the_middle():
    assert Median(f=1)(torch.tensor([[1.0], [2], [3], [10]])) == 2.5


def test_the_largest_numbers_do_not_overflow():
    X = torch.tensor([[3e38], [3e38], [3.2e38], [3.2e38]])
    assert Median(f=1)(X) == pytest.approx(3.1e38)


def test_does_not_depend_on_f():
    X = np.random.default_rng(0).normal(size=(9, 30))
    assert np.array_equal(Median(f=0)(X), Median(f=4)(X))


def test_unusable_rows_leave_the_median_of_the_others():
    X = np.random.default_rng(1).normal(size=(9, 30))
    X[4, 7] = np.nan
    assert np.array_equal(Median(f=2)(X), np.median(np.delete(X, 4, axis=0), axis=0))


def test_shares_are_the_coordinates_in_which_a_client_was_in_the_middle():
    odd = torch.tensor([[0.0, 0, 9], [1, 1, 1], [2, 2, 2], [3, 3, 3], [9, 4, 0]])
    expected = torch.tensor([0, 0, 1, 0, 0]).double()
    torch.testing.assert_close(Median(f=1).aggregate(odd).weights, expected)
    even = Median(f=1).aggregate(odd[:4]).weights
    torch.testing.assert_close(even, torch.tensor([0, 1, 3 / 2, 1 / 2]).double() / 3)


@given(seed=st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_client_weights_act_like_copies_of_the_client(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 10))
    copies = rng.integers(0, 4, n)
    X = rng.integers(-3, 4, (n, 5)).astype(np.float64)
    if 2 * copies.max() >= copies.sum():
        return
    found = Median(f=1).aggregate(X, weights=copies / 3)
    np.testing.assert_allclose(found.vector, np.median(np.repeat(X, copies, axis=0), axis=0))
    assert found.weights.sum() == pytest.approx(1)
    assert (found.weights[copies == 0] == 0).all()


def test_client_weights_without_an_honest_majority_are_refused():
    with pytest.raises(ValueError, match=r"f=1 heaviest of 5 clients hold 0\.6"):
        Median(f=1)(torch.ones(5, 2), weights=[6, 1, 1, 1, 1])
