"""The majority vote against counting."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsieve.aggregation import MajorityVote


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 30), k=st.integers(1, 40), seed=st.integers(0, 99))
def test_equals_the_median_of_the_signs_and_the_count(n, k, seed):
    X = np.random.default_rng(seed).integers(-2, 3, (n, k)) * 0.7
    assert np.array_equal(MajorityVote(f=0)(X), np.sign((X > 0).sum(0) - (X < 0).sum(0)))
    if (X != 0).all() and n % 2:
        assert np.array_equal(MajorityVote(f=0)(X), np.median(np.sign(X), axis=0))


@given(seed=st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_client_weights_act_like_copies_of_the_client(seed):
    rng = np.random.default_rng(seed)
    copies, X = rng.integers(1, 4, 9), rng.integers(-2, 3, (9, 50)).astype(np.float64)
    repeated = np.repeat(X, copies, axis=0)
    found = MajorityVote(f=1)(X, weights=copies / 7)
    assert np.array_equal(found, MajorityVote(f=1)(repeated))


def test_lengths_are_not_heard():
    X = torch.tensor([[1e30, -1.0], [-1, -1e-30], [-1, 1e30]])
    assert torch.equal(MajorityVote(f=1)(X), torch.tensor([-1.0, -1.0]))


def test_shares_are_the_coordinates_in_which_a_client_won():
    X = torch.tensor([[1.0, 1.0, 0.0], [1.0, -1.0, 2.0], [-1.0, -1.0, -2.0]])
    found = MajorityVote(f=1).aggregate(X)
    expected = torch.tensor([1 / 2 + 0 + 1, 1 / 2 + 1 / 2, 1 / 2]).double() / 3
    torch.testing.assert_close(found.weights, expected)
    tie = MajorityVote(f=0).aggregate(torch.tensor([[1.0], [-1.0]]), weights=[1, 1])
    assert tie.vector == 0
    assert tie.weights.tolist() == [0.5, 0.5]


def test_client_weights_without_an_honest_majority_are_refused():
    with pytest.raises(ValueError, match=r"f=1 heaviest of 5 clients hold 0\.6"):
        MajorityVote(f=1)(torch.ones(5, 2), weights=[6, 1, 1, 1, 1])


def test_has_no_kappa():
    assert MajorityVote(f=0).kappa(5) is None
