"""A mixing block by block against the product, and what a mixing reads against what it needs."""

import numpy as np
import pytest
import torch

from fedsieve.aggregation import (
    ARC,
    NNM,
    Bucketing,
    Clipping,
    Median,
    TrimmedMean,
    _compiled,
    _plain_sums,
    _sorting,
)
from fedsieve.aggregation._gram import weighted_sum
from fedsieve.aggregation._mixing import (
    mixed_blocks,
    mixed_columns,
    mixed_rows,
    squared_lengths,
    summed_columns,
)
from fedsieve.aggregation.pre_aggregator import Reads


@pytest.mark.parametrize(("r", "n"), [(1, 1), (3, 7), (9, 9), (20, 20)])
@pytest.mark.parametrize("k", [1, 255, 256, 1000])
def test_the_kernel_multiplies(r, n, k):
    rng = np.random.default_rng(r * k)
    M, X = rng.normal(size=(r, n)), rng.normal(size=(n, k + 3))
    out = np.full((r, k), np.nan)
    s = rng.normal(size=(r, 1))
    mixed_columns(M, s, X, 3, out)
    plain = np.full((r, k), np.nan)
    _plain_sums.mixed_columns(M, s, X, 3, plain)
    assert np.array_equal(out, plain)
    np.testing.assert_allclose(out, s * M @ X[:, 3:], atol=1e-12)
    vector = np.full(k, np.nan)
    summed_columns(M[0], X[:, 3:], vector, 0, k)
    np.testing.assert_allclose(vector, M[0] @ X[:, 3:], atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("entries", [1, 1 << 30])
def test_what_cancels_leaves_nothing_and_nothing_overflows(dtype, entries, monkeypatch):
    monkeypatch.setattr(_compiled, "WORTH_COMPILING", entries)
    monkeypatch.setattr(_compiled, "PATIENCE", 0)
    M = np.full((1, 7), 1 / 7)
    X = torch.tensor([[3.0], [-1], [2], [-5], [4], [-2], [-1]], dtype=dtype)
    assert mixed_rows(M, X) == 0
    most = torch.full((7, 1), torch.finfo(dtype).max / 2, dtype=dtype)
    torch.testing.assert_close(mixed_rows(M, most), most[:1])


@pytest.mark.parametrize("n", [1, 4, 7])
def test_compiled_or_not_a_sum_of_rows_is_the_product(n, monkeypatch):
    X = torch.randn(n, 9000, generator=torch.Generator().manual_seed(0))
    w = np.linspace(-1, 2, n)
    expected = torch.from_numpy(w) @ X.double()
    for entries in (1, 1 << 30):
        monkeypatch.setattr(_compiled, "WORTH_COMPILING", entries)
        monkeypatch.setattr(_compiled, "PATIENCE", 0)
        for stack in (X, X.T.contiguous().T):
            torch.testing.assert_close(weighted_sum(w, stack), expected.float(), atol=1e-5, rtol=0)


def test_weights_that_float32_cannot_hold_are_held():
    X = torch.tensor([[1e30, 2e30], [1e-30, 2e-30]])
    torch.testing.assert_close(weighted_sum(np.array([1e-50, 1e40]), X), torch.tensor([1e10, 2e10]))
    torch.testing.assert_close(
        weighted_sum(np.array([1e-50, 0.0]), X), torch.tensor([1e-20, 2e-20])
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", ["mixes", "resizes", "buckets"])
def test_blocks_make_up_the_product(case, dtype, monkeypatch):
    monkeypatch.setattr(_sorting, "BLOCK", 100)
    rng = np.random.default_rng(1)
    M = {
        "mixes": rng.random((9, 9)),
        "resizes": np.diag(rng.random(9)),
        "buckets": rng.random((4, 9)),
    }
    X = torch.from_numpy(rng.normal(size=(9, 57))).to(dtype)
    found = torch.full((len(M[case]), 57), torch.nan, dtype=dtype)
    for columns, block in mixed_blocks(M[case], X, 5, 50):
        found[:, columns] = block
    expected = torch.from_numpy(M[case]).to(dtype) @ X
    torch.testing.assert_close(found[:, 5:50], expected[:, 5:50])
    assert found[:, :5].isnan().all()
    assert found[:, 50:].isnan().all()


@pytest.mark.parametrize("scale", [1.0, 1e30])
def test_lengths_are_added_up_in_float64(scale):
    X = np.full((2, 100_001), 0.1, np.float32)
    X[1] *= 3
    found = squared_lengths(torch.from_numpy(X * np.float32(scale)), scale)
    np.testing.assert_allclose(found, np.square(X.astype(float)).sum(1), rtol=1e-6)


def materialised(pre, rule, X):
    """The rule on the whole product, by way of an explanation, which needs it."""
    return (pre >> rule).aggregate(X, explain=True).vector


@pytest.mark.parametrize("rule", [TrimmedMean(f=2), Median(f=2)], ids=str)
@pytest.mark.parametrize(
    "pre",
    [
        NNM(2),
        ARC(2),
        Clipping(1.0),
        Clipping(),
        Bucketing(2) >> Clipping(),
        ARC(2) >> Clipping(2.0),
    ],
    ids=str,
)
def test_compiled_or_not_a_composition_is_the_rule_on_the_product(pre, rule, monkeypatch):
    X = np.random.default_rng(2).normal(size=(9, 3000)) * np.linspace(0.01, 0.04, 9)[:, None]
    expected = materialised(pre, rule, X)
    np.testing.assert_allclose((pre >> rule)(X), expected, atol=1e-14)
    monkeypatch.setattr(_compiled, "WORTH_COMPILING", 1)
    monkeypatch.setattr(_compiled, "PATIENCE", 0)
    np.testing.assert_allclose((pre >> rule)(X), expected, atol=1e-14)


def test_client_weights_are_heard_behind_a_mixing():
    X, p = np.random.default_rng(3).normal(size=(9, 40)), np.linspace(1, 1.4, 9)
    for pre in (NNM(2), ARC(2)):
        rule = pre >> TrimmedMean(f=2)
        expected = rule.aggregate(X, weights=p).vector
        np.testing.assert_allclose(rule(X, weights=p), expected, atol=1e-14)


def test_norms_of_messages_need_no_distances(monkeypatch):
    def refused(*_):
        raise AssertionError

    monkeypatch.setattr("fedsieve.aggregation.pre_aggregator.gram", refused)
    X = np.random.default_rng(4).normal(size=(9, 40))
    for pre in (ARC(2), Clipping(), ARC(2) >> Clipping()):
        assert pre.reads == Reads.NORMS
        (pre >> TrimmedMean(f=2))(X)
    assert Reads.DISTANCES in (Bucketing(2) >> Clipping()).reads
    assert Reads.DISTANCES in (NNM(2) >> ARC(2)).reads
