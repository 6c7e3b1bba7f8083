"""The tree of buckets: its shape, its tolerance taken to the limit, its failure bound."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedsieve.aggregation import (
    CAF,
    MDA,
    NNM,
    Bucketing,
    Facts,
    FLTrust,
    GeometricMedian,
    Hierarchical,
    Krum,
    Mean,
    Median,
    MoNNA,
    RobustLearningRate,
    TooManyFaultyClients,
    TrimmedMean,
)
from fedsieve.registry import components


def rng():
    return np.random.default_rng(0)


@given(n=st.integers(1, 200_000), size=st.integers(2, 100))
def test_the_tree_is_low_and_its_buckets_even(n, size):
    counts = Hierarchical(Mean(), size=size).levels(n)
    assert counts[-1] == 1
    assert size ** len(counts) >= n
    assert len(counts) == 1 or size ** (len(counts) - 1) < n
    below = [n, *counts]
    assert all(-(-b // c) <= size for b, c in zip(below, counts, strict=False))
    assert all(b > c for b, c in zip(below[1:], counts[1:], strict=False))


@pytest.mark.parametrize("n", [5, 12, 13, 144, 500])
def test_equals_the_levels_written_out(n):
    X, tree = np.random.default_rng(0).normal(size=(n, 4)), Hierarchical(Median(f=1), size=12)
    level = X[np.random.default_rng(1).permutation(n)]
    for count in tree.levels(n):
        level = np.array([np.median(part, axis=0) for part in np.array_split(level, count)])
    np.testing.assert_array_equal(tree(X, np.random.default_rng(1)), level[0])


def spoilers(tree, n, seed):
    """Who must be Byzantine to take the root with the fewest: f + 1 children of every lost node."""
    nodes = [[i] for i in np.random.default_rng(seed).permutation(n)]
    for count in tree.levels(n):
        parts = np.array_split(np.arange(len(nodes)), count)
        taken = [part[: tree.rule.f + 1] for part in parts]
        nodes = [[client for i in part for client in nodes[i]] for part in taken]
    return nodes[0]


@pytest.mark.parametrize("bad", [1e6, np.nan])
@pytest.mark.parametrize(("f", "size", "n"), [(1, 3, 27), (2, 6, 200), (1, 5, 400)])
def test_the_tolerance_is_exact(f, size, n, bad):
    tree = Hierarchical(Median(f=f), size=size)
    worst = spoilers(tree, n, seed=7)
    assert len(worst) == tree.tolerance(n) + 1
    X = np.random.default_rng(2).normal(size=(n, 3))
    for i in range(0, len(worst), 3):
        held = X.copy()
        held[np.delete(worst, i)] = bad
        assert np.abs(tree(held, np.random.default_rng(7))).max() < 4
    X[worst] = bad
    if np.isnan(bad):
        with pytest.raises(TooManyFaultyClients):
            tree(X, np.random.default_rng(7))
    elif all(size % 2 for size in (n, 3)):  # buckets of 2f + 1: f + 1 are the majority
        assert np.abs(tree(X, np.random.default_rng(7))).max() > 1e3


RULES = {part.name: part.factory for part in components("rule")}
ROBUST = [
    name
    for name, rule in RULES.items()
    if Facts.ROBUST in ~rule.lacks and name not in ("monna", "fltrust")
]


@pytest.mark.parametrize("name", ROBUST)
@pytest.mark.parametrize("pre", [None, NNM(f=1), Bucketing(s=2)])
@pytest.mark.parametrize("bad", [1e3, 1e9, -1e30])
def test_the_tolerance_holds_whatever_robust_rule_fills_the_buckets(name, pre, bad):
    inner = RULES[name](f=1)
    inner = inner if pre is None else pre >> inner
    size = next(m for m in range(2, 100) if inner.breakdown(m) >= 1)
    tree, n = Hierarchical(inner, size=size + 1), size * (size + 1)
    X = np.random.default_rng(2).normal(1, 0.1, (n, 3))
    plain = tree(X, np.random.default_rng(7))
    worst = spoilers(tree, n, seed=7)
    assert len(worst) == tree.tolerance(n) + 1 == 4
    for i in range(len(worst)):
        held = X.copy()
        held[np.delete(worst, i)] = bad
        assert np.abs(tree(held, np.random.default_rng(7)) - plain).max() < 2


def test_fltrust_fills_buckets_about_its_root():
    tree, X = Hierarchical(FLTrust(f=1, root=np.ones(3)), size=4), np.ones((16, 3))
    X[spoilers(tree, 16, seed=7)[:-1]] = 1e9
    assert np.abs(tree(X, np.random.default_rng(7))).max() < 2


@pytest.mark.parametrize(
    "rule",
    [
        Mean(f=2),
        RobustLearningRate(f=2),
        GeometricMedian(f=2, iterations=3),
        Bucketing(s=2) >> Mean(f=2),
        NNM(f=0) >> TrimmedMean(f=2),
    ],
    ids=str,
)
def test_a_rule_that_few_rows_spoil_is_refused(rule):
    with pytest.raises(ValueError, match=r"allowed are rules with Facts.ROBUST, or f=0"):
        Hierarchical(rule, size=12)


@pytest.mark.parametrize("rule", [MoNNA(f=2), NNM(f=2) >> MoNNA(f=2), MoNNA(f=0)], ids=str)
def test_a_rule_that_trusts_a_row_is_refused(rule):
    with pytest.raises(ValueError, match=r"trusts the client in one row.*without a pivot"):
        Hierarchical(rule, size=12)


def test_random_byzantine_clients_take_the_root_no_more_often_than_stated():
    n, byzantine, draws = 81, 14, 2000
    tree, rng = Hierarchical(Median(f=1), size=9), np.random.default_rng(3)
    bound = tree.failure(n, byzantine)
    lost = 0
    for _ in range(draws):
        faulty = np.zeros(n, dtype=bool)
        faulty[:byzantine] = True
        level = rng.permutation(faulty)
        for count in tree.levels(n):
            level = np.array([part.sum() > 1 for part in np.array_split(level, count)])
        lost += level[0]
    assert tree.failure(n, tree.tolerance(n)) == 0 < bound <= 1
    assert lost / draws <= bound + 4 * np.sqrt(bound * (1 - bound) / draws) + 1e-12
    assert lost > 0


def test_a_bound_that_means_something_at_full_size():
    tree = Hierarchical(TrimmedMean(f=8), size=18)
    assert tree.levels(100_000) == [5556, 309, 18, 1]
    assert tree.tolerance(100_000) == 9**4 - 1
    assert tree.failure(100_000, 10_000) < 1e-12
    assert tree.failure(100_000, 50_000) == 1


def test_the_deal_alone_is_random():
    X, tree = torch.arange(50.0)[:, None] ** 2, Hierarchical(Median(f=1), size=4)
    once, again = (tree(X, np.random.default_rng(0)) for _ in range(2))
    assert torch.equal(once, again)
    assert len({float(tree(X, np.random.default_rng(seed))) for seed in range(20)}) > 1


def test_kind_dtype_and_input_are_kept():
    X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    before = X.copy()
    out = Hierarchical(Median(f=1), size=5)(X, np.random.default_rng(0))
    assert isinstance(out, np.ndarray)
    assert out.dtype == np.float32
    assert np.array_equal(X, before)


@pytest.mark.parametrize("size", [1, 0, 2.0, True])
def test_a_bucket_holds_at_least_two(size):
    with pytest.raises(ValueError, match=f"size={size!r} must be an integer >= 2"):
        Hierarchical(Mean(), size=size)


@pytest.mark.parametrize(
    ("n", "nearest"),
    [
        (13, "n=81, n=12 or size >= 13"),
        (80, "n=81, n=12 or size >= 80"),
        (200, "n=729, n=144 or size >= 15"),
        (5, "n=9$"),
    ],
)
def test_n_that_fits_no_tree_is_refused_with_the_nearest(n, nearest):
    tree = Hierarchical(Median(f=4), size=12)
    for act in (tree.check, tree.tolerance, lambda n: tree(torch.ones(n, 1), rng())):
        with pytest.raises(ValueError, match=f"n={n} .*buckets have 9 to 12 rows.*{nearest}"):
            act(n)
    with pytest.raises(ValueError, match=r"size=8 makes no bucket large enough: .*f=4 with n=8"):
        Hierarchical(Median(f=4), size=8).check(100)


@given(data=st.data(), f=st.integers(0, 6), more=st.integers(1, 20), depth=st.integers(1, 3))
def test_every_n_between_the_least_and_the_largest_tree_has_one(data, f, more, depth):
    least = 2 * f + 1
    size = max(least + more, 2)
    n = data.draw(st.integers(least**depth, size**depth))
    tree = Hierarchical(Median(f=f), size=size)
    tree.check(n)
    below = n
    for buckets in tree.levels(n):
        assert least <= below // buckets
        assert -(-below // buckets) <= size
        below = buckets
    assert below == 1
    assert tree.tolerance(n) == (f + 1) ** len(tree.levels(n)) - 1


TREES = [(13, 13, 1), (9, 12, 2), (130, 12, 2), (57, 12, 3), (401, 8, 1)]


@pytest.mark.parametrize(("n", "size", "f"), TREES)
@pytest.mark.parametrize("rule", [CAF, Krum, GeometricMedian, MDA])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_reported_weights_make_the_aggregate(n, size, f, rule, weighted):
    tree = Hierarchical(rule(f=1 if rule is Krum else f), size=size)
    X, p = rng().normal(size=(n, 4)), rng().uniform(0.95, 1.05, n) if weighted else None
    X[3, 0] = np.nan
    found = tree.aggregate(X, rng(), p)
    assert found.rejected == 1
    assert found.weights[3] == 0
    assert found.weights.sum() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(
        found.vector.numpy(), found.weights.numpy() @ np.nan_to_num(X), atol=1e-12
    )
    assert np.array_equal(found.vector.numpy(), tree(X, rng(), p))
    assert tree.aggregate(X, rng(), p, explain=False).weights is None


def test_a_lost_bucket_is_lost_with_all_its_clients():
    tree, X = Hierarchical(Median(f=1), size=3), np.zeros((27, 2))
    order = rng().permutation(27)
    X[order[:2]] = np.nan  # both in the first bucket of three
    found = tree.aggregate(X, rng())
    assert found.rejected == 3
    assert (found.weights[order[:3]] == 0).all()
    assert found.weights.sum() == pytest.approx(1)


@pytest.mark.parametrize("rule", [Median(f=2), TrimmedMean(f=2), CAF(f=2), Krum(f=1)])
def test_equal_weights_are_none_and_weight_zero_is_absence(rule):
    X, tree = rng().normal(size=(131, 3)), Hierarchical(rule, size=12)
    np.testing.assert_allclose(tree(X, rng(), np.full(131, 3.0)), tree(X, rng()), atol=1e-12)
    p = rng().uniform(0.95, 1.05, 131)
    p[::10] = 0
    X[::10] = np.nan
    heard = p > 0
    found, expected = tree.aggregate(X, rng(), p), tree.aggregate(X[heard], rng(), p[heard])
    np.testing.assert_allclose(found.vector.numpy(), expected.vector.numpy(), atol=1e-12)
    np.testing.assert_allclose(found.weights.numpy()[heard], expected.weights.numpy(), atol=1e-12)
    assert found.rejected == 0


@pytest.mark.parametrize("n", [27, 200, 203])
def test_the_tolerance_holds_with_weights_that_differ_less_than_stated(n):
    tree = Hierarchical(Median(f=2), size=9)
    smallest = min(below // buckets for below, buckets in pairwise([n, *tree.levels(n)]))
    heaviest = 0.99 * (smallest - 2) / 2
    worst = spoilers(tree, n, seed=7)[:-1]
    X, p = np.random.default_rng(2).normal(size=(n, 3)), np.ones(n)
    X[worst] = 1e6
    p[worst] = heaviest
    assert np.abs(tree(X, np.random.default_rng(7), p)).max() < 4


def test_a_bucket_whose_weight_is_held_by_f_rows_counts_as_lost():
    tree = Hierarchical(Median(f=1), size=3)
    order, p = np.random.default_rng(7).permutation(27), np.ones(27)
    p[order[0]] = 2.0  # as much as the other two
    found = tree.aggregate(np.zeros((27, 1)), np.random.default_rng(7), p)
    assert found.rejected == 3
    p[order[9]] = p[order[18]] = 2.0
    tree.aggregate(np.zeros((27, 1)), np.random.default_rng(7), p)
    with pytest.raises(ValueError, match="has no place for them"):
        Hierarchical(Deaf(f=1), size=3)(np.zeros((27, 1)), np.random.default_rng(7), p)


class Deaf(Median):
    lacks = Facts.WEIGHTED


@pytest.mark.parametrize("byzantine", [-1, 101, 2.5])
def test_byzantine_clients_are_clients(byzantine):
    allowed = "an integer between 0 and n=100"
    with pytest.raises(ValueError, match=f"byzantine={byzantine} must be {allowed}"):
        Hierarchical(Median(f=1), size=10).failure(100, byzantine)
