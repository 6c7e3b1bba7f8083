"""MeaMed against a search for the nearest values in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsieve.aggregation import MeaMed
from fedsieve.aggregation._sorting import Ranks, mean_of


def around_median(X, f):
    """The n - f values nearest to the median, the smaller of two equally near ones."""
    X = np.sort(X.astype(np.float64), axis=0)
    median = np.median(X, axis=0)
    rounding = 1e-14 * (np.abs(X) + np.abs(median)) * (median > X)
    order = np.argsort(np.abs(X - median) - rounding, axis=0, kind="stable")
    return np.take_along_axis(X, order[: len(X) - f], axis=0).mean(0)


@settings(max_examples=80, deadline=None)
@given(n=st.integers(1, 70), k=st.integers(1, 40), seed=st.integers(0, 99), data=st.data())
def test_equals_the_search(n, k, seed, data):
    f = data.draw(st.integers(0, (n - 1) // 2))
    rng = np.random.default_rng(seed)
    for X in (rng.normal(size=(n, k)), rng.integers(-3, 4, (n, k)).astype(np.float64)):
        np.testing.assert_allclose(MeaMed(f=f)(X), around_median(X, f), rtol=0, atol=1e-13)


@pytest.mark.parametrize("n", range(1, 12))
def test_any_number_of_nearest_values(n):
    X = torch.from_numpy(np.random.default_rng(n).normal(size=(n, 200)))
    for f in range(n):
        np.testing.assert_allclose(
            mean_of(Ranks(f, nearest=True), X), around_median(X.numpy(), f), atol=1e-14
        )


@pytest.mark.parametrize("n", [20, 80])
def test_column_blocks_join_seamlessly(n):
    X = np.random.default_rng(0).normal(size=(n, 60_000)).astype(np.float32)
    np.testing.assert_allclose(MeaMed(f=4)(X), around_median(X, 4), atol=1e-6)


def test_the_median_of_an_even_number_is_between_the_two_in_the_middle():
    X = torch.tensor([[0.0], [0.5], [4], [6], [9.4], [20]])
    # nearest to 5, not to the lower one, 4, which would keep 0 in place of 9.4
    assert MeaMed(f=2)(X) == pytest.approx((0.5 + 4 + 6 + 9.4) / 4)


def test_of_a_tie_the_smaller_value():
    assert MeaMed(f=1)(torch.tensor([[-1.0], [0], [1]])) == -0.5


def test_shares_are_the_coordinates_in_which_a_client_was_near():
    X = torch.tensor([[0.0, 0, 9], [1, 1, 1], [2, 2, 2], [3, 3, 3], [9, 4, 0]])
    found = MeaMed(f=1).aggregate(X)
    # near in columns: all but the last; all but the last (a tie); all but the first
    expected = torch.tensor([2, 3, 3, 3, 1]).double() / 12
    torch.testing.assert_close(found.weights, expected)
    torch.testing.assert_close(found.vector, torch.tensor([1.5, 1.5, 1.5]))


@given(seed=st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_client_weights_act_like_copies_of_the_client(seed):
    rng = np.random.default_rng(seed)
    copies = rng.integers(1, 4, 9)
    X = rng.normal(size=(9, 5))
    held = int(np.sort(copies)[-2:].sum())
    if 2 * held >= copies.sum():
        return
    found = MeaMed(f=2).aggregate(X, weights=copies / 2)
    expected = around_median(np.repeat(X, copies, axis=0), held)
    np.testing.assert_allclose(found.vector, expected, atol=1e-12)
    assert found.weights.sum() == pytest.approx(1)


def test_client_weights_without_an_honest_majority_are_refused():
    with pytest.raises(ValueError, match=r"f=2 heaviest of 5 clients hold 0\.667"):
        MeaMed(f=2)(torch.ones(5, 3), weights=[5, 1, 1, 1, 1.0])


def test_the_literature_has_no_kappa():
    assert MeaMed(f=0).kappa(5) == 0
    assert MeaMed(f=1).kappa(5) is None
