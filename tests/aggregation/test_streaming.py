"""Aggregating blocks of columns gives what the whole stack gives."""

import numpy as np
import pytest
import torch

from fedsieve.aggregation import (
    FLAME,
    Bulyan,
    CenteredClipping,
    DnC,
    Facts,
    Rule,
    SignGuard,
    TooManyFaultyClients,
    TrimmedMean,
    aggregate_blocks,
    streaming,
)
from fedsieve.registry import components

N, F = 9, 2
PRES = {c.name: c for c in components("pre-aggregator")}


WIDTHS = [3, 50, 1, 200]
ROOT = torch.linspace(-1, 1, sum(WIDTHS))
RULES = {c.name: c.build(f=F, root=ROOT) for c in components("rule")}
RULES["centered-clipping from v0"] = CenteredClipping(f=F, tau=3.0, v0=ROOT)
RULES["dnc on samples"] = DnC(f=F, b=20, num_iters=3, seed=1)
RULES["flame with noise"] = FLAME(f=F, lambda_=0.1, seed=2)
RULES["sign-guard on all coordinates"] = SignGuard(f=F, fraction=1.0)
RULES["bulyan"] = Bulyan(f=1)  # n >= 4f + 3
MIXED = {
    f"{pre}>>{name}": PRES[pre].build(f=F) >> rule for pre in PRES for name, rule in RULES.items()
}
MIXED = {name: rule for name, rule in MIXED.items() if rule.breakdown(N) >= rule.f}
every = pytest.mark.parametrize("name", [*RULES, *MIXED])


def stack(dtype=torch.float32):
    X = torch.randn(N, sum(WIDTHS), dtype=dtype, generator=torch.Generator().manual_seed(0))
    X[0] += 3
    return X


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1 << 22, 63])
def test_equals_the_rule_on_the_whole_stack(name, dtype, size, monkeypatch):
    monkeypatch.setattr(streaming, "SLICE", size)
    rule, X = {**RULES, **MIXED}[name], stack(dtype)
    weights = np.linspace(1, 1.3, N)
    weights[3] = 0 if rule.f == 1 else 1
    for faulty in (False, True):
        if faulty:
            X[4, 60] = torch.nan  # in the last block only
        for w in (None, weights):
            if name == "nnm>>bulyan" and dtype == torch.float32:
                continue  # mixed rows are alike up to rounding, which decides between them
            if name in {"nnm>>bulyan", "nnm>>dnc"} and w is not None:
                continue  # and they differ in weight
            found = aggregate_blocks(rule, X.split(WIDTHS, dim=1), w, explain=True)
            expected = rule.aggregate(X, w)
            torch.testing.assert_close(found.vector, expected.vector)
            if name in RULES:  # rounding decides which of two equally mixed rows is kept
                torch.testing.assert_close(found.weights, expected.weights)
            if Facts.CONVEX in rule.facts:  # otherwise further points have the rest of the weight
                assert found.weights.sum() == pytest.approx(1)
            assert found.rejected == expected.rejected == faulty
            if w is None and name in {"median", "trimmed-mean", "meamed", "majority-vote"}:
                assert torch.equal(found.vector, expected.vector)


@pytest.mark.parametrize("scale", [1e-25, 1e25, 1e-41])
def test_extreme_scales(scale):
    X = stack() * scale
    for rule in (*RULES.values(), *MIXED.values()):
        found = aggregate_blocks(rule, X.split(WIDTHS, dim=1))
        # what cancels is left with the rounding of the messages' own scale
        torch.testing.assert_close(found.vector, rule(X), rtol=1e-6, atol=max(1e-6 * scale, 1e-5))
        assert found.weights is None


def test_gross_rows_are_found_however_the_blocks_fall():
    X = stack(torch.float64)
    X[3, 5] = 1e200
    assert aggregate_blocks(TrimmedMean(f=1), X.split(WIDTHS, dim=1)).rejected == 1


def test_too_many_faulty_rows_over_all_blocks():
    X = stack()
    X[[0, 1, 2], [1, 60, 250]] = torch.nan
    with pytest.raises(TooManyFaultyClients, match="3 of 9 rows"):
        aggregate_blocks(TrimmedMean(f=2), X.split(WIDTHS, dim=1))


def test_memory_mapped_arrays(tmp_path):
    X = stack().numpy()
    np.save(tmp_path / "stack.npy", X)
    mapped = np.load(tmp_path / "stack.npy", mmap_mode="r")
    found = aggregate_blocks(TrimmedMean(f=2), [mapped])
    assert np.array_equal(found.vector.numpy(), TrimmedMean(f=2)(X))


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([], "blocks is empty"),
        ([torch.ones(9)], r"a block has shape \(9,\)"),
        ([torch.ones(9, 2), torch.ones(8, 2)], "9 rows of torch.float32 and of 8 rows"),
        ([torch.ones(9, 2), torch.ones(9, 2).double()], "and of 9 rows of torch.float64"),
        ([torch.ones(9, 2, dtype=torch.int64)], "dtype torch.int64"),
        (iter([torch.ones(9, 2)]), "only once"),
        ([torch.ones(4, 2)], "f=2 with n=4; largest legal f is 1"),
    ],
)
def test_wrong_blocks_are_refused(blocks, message):
    with pytest.raises(ValueError, match=message):
        aggregate_blocks(TrimmedMean(f=2), blocks)


def test_a_rule_that_needs_everything_at_once_is_refused():
    class Longest(Rule):
        breakdown = kappa = _combine = lambda self, *_, **__: 9

    with pytest.raises(ValueError, match="needs the whole stack at once"):
        aggregate_blocks(Longest(f=0), [torch.ones(3, 2)])
