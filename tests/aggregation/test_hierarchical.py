"""The tree of buckets: its shape, its tolerance taken to the limit, its failure bound."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedsieve.aggregation import Hierarchical, Mean, Median, TooManyFaultyClients, TrimmedMean


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


def test_a_bucket_too_small_for_the_rule_is_refused():
    with pytest.raises(ValueError, match="f=5 with n=10; largest legal f is 4"):
        Hierarchical(Median(f=5), size=11)(torch.ones(100, 1), np.random.default_rng(0))


@pytest.mark.parametrize("byzantine", [-1, 101])
def test_byzantine_clients_are_clients(byzantine):
    with pytest.raises(ValueError, match=f"byzantine={byzantine} must be between 0 and n=100"):
        Hierarchical(Median(f=1), size=10).failure(100, byzantine)
