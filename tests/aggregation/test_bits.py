"""With numba and without, a rule gives the same bits; so it does with any number of threads.

On the CPU: a device has its own order of sums.
"""

import numpy as np
import pytest
import torch

from fedsieve.aggregation import (
    ARC,
    CGE,
    NNM,
    Bucketing,
    Clipping,
    Facts,
    Krum,
    Median,
    TrimmedMean,
    _compiled,
    _threads,
    aggregate_blocks,
)
from fedsieve.registry import components

RULES = {c.name: c for c in components("rule")}
PRES = {c.name: c for c in components("pre-aggregator")}
CHAINS = {
    "nnm >> clipping >> trimmed-mean": NNM(2) >> Clipping() >> TrimmedMean(f=2),
    "bucketing >> arc >> median": Bucketing(2) >> ARC(2) >> Median(f=2),
    "arc >> nnm >> krum": ARC(2) >> NNM(2) >> Krum(f=2),
    "clipping 1.0 >> cge": Clipping(1.0) >> CGE(f=2),
}
NAMES = [*RULES, *(f"{pre} >> {rule}" for pre in PRES for rule in RULES), *CHAINS]
F = 2


def build(name, k):
    if name in CHAINS:
        return CHAINS[name]
    *pre, last = name.split(" >> ")
    samples = {"root": lambda: torch.linspace(0.5, 1.5, k)}  # for arguments without a default
    rule = RULES[last].build(f=F, **{argument: make() for argument, make in samples.items()})
    return PRES[pre[0]].build(f=F) >> rule if pre else rule


def stack(kind, n, k, dtype):
    rng = np.random.default_rng(n + k)
    X = rng.normal(1.0, 0.25, (n, k)) * rng.uniform(0.5, 2, k)
    X[-F:] *= -3
    if kind == "equal rows":
        X[3:] = np.round(X[3])
    if kind == "unusable":
        X[1, k - 1] = np.nan
    X *= {"subnormal": 1e-41, "huge": 1e37}.get(kind, 1.0)
    X += {"offset": 1e4}.get(kind, 0.0)
    return torch.from_numpy(X).to(dtype)


def results(rule, X):
    """All that a rule tells of a stack, as bytes."""
    rules = [rule, rule.for_round(3, X[0].clone())] if rule.remembers else [rule]
    weights = [None]
    if Facts.WEIGHTED in rule.facts:
        weights.append(torch.linspace(1.0, 1.2, len(X)))
    told = []
    for each in rules:
        for p in weights:
            explained = each.aggregate(X, p)
            streamed = aggregate_blocks(each, list(X.split([7, X.shape[1] - 7], dim=1)), p)
            told += [each(X, p), explained.vector, explained.weights, streamed.vector]
    return [part.numpy().tobytes() for part in told]


def both_ways(monkeypatch, rule, X, threads=1):
    """With numba and so many threads; without numba, and a single one."""
    monkeypatch.setattr(_compiled, "WORTH_COMPILING", 1)
    monkeypatch.setattr(_compiled, "PATIENCE", 0)
    monkeypatch.setattr(_threads, "STRETCH", 1 << 13)  # of 13 rows: three tiles
    monkeypatch.setattr(_threads, "GRAIN", 1 << 10)
    with monkeypatch.context() as way:
        way.setattr(torch, "get_num_threads", lambda: threads)
        compiled = results(rule, X)
    with monkeypatch.context() as way:
        way.setattr(torch, "get_num_threads", lambda: 1)
        way.setattr(_compiled, "_loaded", {})
        way.setattr(_compiled, "_compile", lambda *_: None)
        return compiled, results(rule, X)


def size(name, k):
    """The least n >= 13 for which it is defined."""
    return next(n for n in range(13, 99) if build(name, k).breakdown(n) >= F)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NAMES)
def test_every_rule_gives_the_same_bits_without_numba(name, dtype, monkeypatch):
    pytest.importorskip("numba")
    for kind, k in (("plain", 700), ("equal rows", 259)):
        rule, X = build(name, k), stack(kind, size(name, k), k, dtype)
        compiled, plain = both_ways(monkeypatch, rule, X, threads=3)
        assert compiled == plain


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["unusable", "subnormal", "huge", "offset"])
@pytest.mark.parametrize(
    "name", [*RULES, *CHAINS, "nnm >> trimmed-mean", "bucketing >> median", "nnm >> krum"]
)
def test_extremes_give_the_same_bits_without_numba(name, kind, dtype, monkeypatch):
    pytest.importorskip("numba")
    k = 263
    compiled, plain = both_ways(monkeypatch, build(name, k), stack(kind, size(name, k), k, dtype))
    assert compiled == plain


@pytest.mark.parametrize(("n", "k"), [(5, 1), (5, 8), (66, 131), (300, 20)])
@pytest.mark.parametrize("name", ["median", "meamed", "caf", "geometric-median", "nnm >> krum"])
def test_other_sizes_give_the_same_bits_without_numba(name, n, k, monkeypatch):
    pytest.importorskip("numba")
    if build(name, k).breakdown(n) < F:
        pytest.skip("not defined")
    for dtype in (torch.float32, torch.float64):
        X = stack("plain", n, k, dtype).repeat(1, 8)[:, : max(k, 8)]
        compiled, plain = both_ways(monkeypatch, build(name, X.shape[1]), X, threads=2)
        assert compiled == plain
