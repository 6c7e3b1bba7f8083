"""What is let in, on which scale, and what it costs to leave a row out."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedsieve.aggregation import (
    NNM,
    Krum,
    Median,
    TooManyFaultyClients,
    TrimmedMean,
    _door,
)
from fedsieve.aggregation._door import admit, row_norms, safe_norms, wide_norms


def draw(n=9, k=50, dtype=torch.float32):
    return torch.from_numpy(np.random.default_rng(0).normal(size=(n, k))).to(dtype)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_row_that_is_not_finite_changes_neither_scale_nor_reference(bad, dtype):
    X = draw(dtype=dtype)
    X[4, 7] = bad
    others = [i for i in range(9) if i != 4]
    rows, plain = admit(X, None, 2), admit(X[others], None, 2)
    assert rows.usable.tolist() == [i != 4 for i in range(9)]
    assert (rows.removed, rows.scale, rows.share) == (1, 1.0, None)
    assert rows.reference == plain.reference
    assert torch.equal(rows.data, plain.data)


@pytest.mark.parametrize("far", [1e19, 1e30, 3e38])
def test_a_row_whose_square_overflows_costs_the_others_no_rescaling(far):
    X = draw()
    X[4, 7] = far
    rows = admit(X, None, 2)
    assert rows.scale == 1
    assert rows.data is X
    assert rows.removed == 0


def test_a_row_grossly_longer_than_the_median_is_removed():
    X = draw(dtype=torch.float64)
    X[4] *= 1e120
    X[5] *= 1e200  # its square overflows
    rows = admit(X, None, 2)
    assert (rows.removed, rows.scale) == (2, 1.0)
    with pytest.raises(TooManyFaultyClients, match="2 of 9 rows are unusable"):
        admit(X, None, 1)


@pytest.mark.parametrize("weights", [[3.0] * 9, [0, *[3.0] * 8], [3.0, 0, *[3.0] * 6, 0]])
def test_shares_that_are_equal_are_none(weights):
    X = draw()
    rows = admit(X, weights, 2)
    heard = np.array(weights) > 0
    assert rows.share is None
    assert rows.removed == 0
    assert np.array_equal(rows.usable, heard)
    assert torch.equal(rows.data, X[torch.from_numpy(heard)])


def test_unequal_shares_are_equal_once_the_only_other_one_is_unusable():
    X = draw()
    X[4] = torch.nan
    assert admit(X, [1, 1, 1, 1, 2, 1, 1, 1, 1], 2).share is None
    X[4] = 1
    assert admit(X, [1, 1, 1, 1, 2, 1, 1, 1, 1], 2).share is not None


def test_an_absent_client_does_not_count_as_removed_and_is_not_counted_against_f():
    X = draw()
    X[0], X[4] = torch.nan, torch.inf
    rows = admit(X, [0, *range(1, 9)], 1)
    assert rows.removed == 1
    assert rows.usable.tolist() == [False, *[True] * 3, False, *[True] * 4]
    assert rows.share.sum() == pytest.approx(1)
    with pytest.raises(TooManyFaultyClients, match="1 of 8 rows are unusable"):
        admit(X, [0, *range(1, 9)], 0)


@given(st.integers(-300, 300), st.integers(1, 40))
def test_wide_norms_know_no_range(exponent, k):
    X = draw(5, k, torch.float64)
    expected = X.norm(dim=1).numpy()
    which = np.array([True, False, True, True, False])
    found = wide_norms(X * 10.0**exponent, which)
    np.testing.assert_allclose(found / 10.0**exponent, expected[which], rtol=1e-9)
    np.testing.assert_allclose(safe_norms(X * 10.0**exponent) / 10.0**exponent, expected, rtol=1e-9)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("column", [0, 150, 299])
def test_wide_norms_of_many_blocks_are_those_of_one(bad, column, monkeypatch):
    X = draw(4, 300)
    X[1] *= 1e30
    X[2, column] = bad
    everyone = np.ones(4, dtype=bool)
    whole = wide_norms(X, everyone)
    monkeypatch.setattr(
        _door, "blocks", lambda *_, **__: (slice(i, i + 7) for i in range(0, 300, 7))
    )
    found = wide_norms(X, everyone)
    assert np.isfinite(found).tolist() == [True, True, False, True]
    np.testing.assert_allclose(found[[0, 1, 3]], whole[[0, 1, 3]], rtol=1e-12)
    np.testing.assert_allclose(found[[0, 3]], row_norms(X)[[0, 3]], rtol=1e-6)


@pytest.mark.parametrize("rule", [TrimmedMean(2), Krum(2), NNM(2) >> Median(2)], ids=str)
@pytest.mark.parametrize("hostile", ["nan", "inf", "absent", "nan and absent", "far"])
def test_leaving_rows_out_takes_one_copy_of_the_stack_and_blocks(rule, hostile, monkeypatch):
    """The largest tensors that torch makes on the way, in stacks."""
    X = draw(10, 100_000)
    weights = np.array([0, *[1.0] * 9]) if "absent" in hostile else None
    if hostile != "absent":
        X[4, 5] = {"inf": torch.inf, "far": 1e30}.get(hostile, torch.nan)
    monkeypatch.setattr("fedsieve.aggregation._sorting.BLOCK", 1 << 14)
    rule(X[:, :10])
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        rule(X, weights)
    large = [
        event.self_cpu_memory_usage
        for event in profile.events()
        if event.self_cpu_memory_usage > X.nbytes / 20
    ]
    copies = sum(large) / X.nbytes
    assert copies < (0.2 if hostile == "far" else 1.2)
