"""Client weights under a cap: the projection, and what a lie about a size can buy."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedsieve.aggregation import CAF, Bulyan, Mean, Median, TooManyFaultyClients, capped_shares
from fedsieve.aggregation.rule import largest_share

sizes = st.lists(st.floats(1e-6, 1e9), min_size=1, max_size=30)
caps = st.floats(1, 40) | st.just(1.0) | st.just(float("inf"))


def slow(p, cap):
    """Water filling: whoever is above the cap is set to it, and the others are rescaled."""
    n, p = len(p), np.asarray(p, dtype=float)
    full = np.zeros(n, dtype=bool)
    while True:
        free = 1 - (full.sum() * cap / n if full.any() else 0)
        shares = np.where(full, cap / n, p * free / (p[~full].sum() or 1))
        if (over := ~full & (shares > cap / n * (1 + 1e-13))).any():
            full |= over
        else:
            return shares


@given(sizes, caps)
def test_shares_sum_to_one_below_the_cap_in_the_order_of_the_sizes(claimed, cap):
    n = len(claimed)
    shares = capped_shares(claimed, cap).numpy()
    assert shares.sum() == pytest.approx(1, abs=1e-12)
    assert shares.max() <= cap / n
    assert (np.diff(shares[np.argsort(claimed, kind="stable")]) >= 0).all()
    np.testing.assert_allclose(shares, slow(claimed, cap), rtol=1e-9)


@given(st.floats(1e-6, 1e9), st.integers(1, 30), caps)
def test_equal_sizes_weigh_the_same(size, n, cap):
    assert capped_shares([size] * n, cap).tolist() == pytest.approx([1 / n] * n, rel=1e-14)


@given(sizes, caps, st.floats(1, 1e12))
def test_below_the_cap_shares_keep_the_ratios_of_the_sizes(claimed, cap, scale):
    n, shares = len(claimed), capped_shares(claimed, cap).numpy()
    below = shares < cap / n * (1 - 1e-9)
    ratios = shares[below] / np.asarray(claimed)[below]
    np.testing.assert_allclose(ratios, ratios[:1].repeat(len(ratios)), rtol=1e-9)
    scaled = capped_shares(torch.tensor(claimed, dtype=torch.float64) * scale, cap)
    np.testing.assert_allclose(scaled, shares, rtol=1e-9)


@given(sizes, st.integers(1, 5), st.floats(1, 3))
def test_f_clients_hold_no_more_than_f_caps_whatever_they_claim(claimed, f, cap):
    n, lies = len(claimed) + f, [1e300] * f
    shares = capped_shares(claimed + lies, cap).numpy()
    assert shares[-f:].sum() <= f * cap / n * (1 + 1e-12)
    if 2 * f * cap < n:
        assert largest_share(shares, n, f) < 0.5


def test_a_client_that_holds_nothing_is_not_heard():
    assert capped_shares([0, 1, 1], 2.0).tolist() == [0, 0.5, 0.5]
    with pytest.raises(ValueError, match=r"only 1 of n=4 are > 0.*least cap allowed is 4"):
        capped_shares([0, 0, 0, 5], 2.0)


@pytest.mark.parametrize("cap", [0.5, -1.0, float("nan")])
def test_a_cap_below_equal_weights_is_refused(cap):
    with pytest.raises(ValueError, match=f"cap={cap!r} must be >= 1"):
        capped_shares([1, 2], cap)


def test_a_lie_about_a_size_takes_the_mean_of_all_but_not_a_capped_median():
    stack = torch.cat([torch.zeros(8, 3), torch.full((2, 3), 50.0)])
    claimed = [10.0] * 8 + [1e6] * 2
    assert Mean()(stack, claimed).min() > 49
    with pytest.raises(TooManyFaultyClients, match=r"hold 1 of the weight.*cap the weights"):
        Median(f=2)(stack, claimed)
    for rule in (Median(f=2), CAF(f=2)):
        assert rule(stack, capped_shares(claimed, 2.0)).abs().max() < 1e-9
    with pytest.raises(TooManyFaultyClients, match=r"hold 0.4 .* allowed is less than 0.25"):
        Bulyan(f=1)(stack, capped_shares(claimed, 4.0))
