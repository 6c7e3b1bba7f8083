"""Nearest-neighbour mixing, and composition by >>."""

from itertools import combinations

import numpy as np
import pytest
import torch

from fedsieve.aggregation import CAF, NNM, SMEA, Facts, GramRule, Mean, TrimmedMean
from fedsieve.aggregation._gram import Products


def mixed(X, f):
    """Every row becomes the mean of its n - f nearest rows."""
    out = np.empty_like(X)
    for i in range(len(X)):
        distances = ((X - X[i]) ** 2).sum(1)
        out[i] = X[np.argsort(distances)[: len(X) - f]].mean(0)
    return out


@pytest.mark.parametrize("rule", [TrimmedMean(f=2), CAF(f=2), Mean(f=2)], ids=str)
def test_equals_the_rule_on_mixed_rows(rule):
    rng = np.random.default_rng(0)
    for _ in range(20):
        X = rng.normal(size=(9, 5))
        X[:2] += rng.uniform(0, 4)
        np.testing.assert_allclose((NNM(f=2) >> rule)(X), rule(mixed(X, 2)), atol=1e-9)


def test_chains_mix_twice_however_they_are_bracketed():
    X = np.random.default_rng(1).normal(size=(9, 5))
    expected = CAF(f=2)(mixed(mixed(X, 2), 1))
    left = (NNM(f=2) >> NNM(f=1)) >> CAF(f=2)
    right = NNM(f=2) >> (NNM(f=1) >> CAF(f=2))
    assert left == right
    assert repr(left) == "NNM(f=2) >> NNM(f=1) >> CAF(f=2)"
    np.testing.assert_allclose(left(X), expected, atol=1e-9)
    pair = NNM(f=2) >> NNM(f=1) >> TrimmedMean(f=2)
    np.testing.assert_allclose(pair(X), TrimmedMean(f=2)(mixed(mixed(X, 2), 1)), atol=1e-9)
    assert left.breakdown(9) == pair.breakdown(9) == 4
    twice = NNM(f=2) >> NNM(f=2) >> TrimmedMean(f=2)
    assert twice.kappa(9) == NNM(f=2).kappa(9, NNM(f=2).kappa(9, TrimmedMean(f=2).kappa(9)))
    assert left.kappa(9) is None
    assert pair.kappa(9) is None  # one stage was told of too few


def test_a_gram_rule_stays_one():
    assert isinstance(NNM(f=1) >> CAF(f=1), GramRule)
    assert not isinstance(NNM(f=1) >> TrimmedMean(f=1), GramRule)


def test_messages_equally_far_share_the_places_that_are_left():
    M, _ = NNM(f=2).mixing(Products(np.zeros((5, 5))))
    np.testing.assert_allclose(M, 1 / 5)
    x = np.array([0.0, 1.0, -1.0, 1.0, 7.0])
    M, _ = NNM(f=2).mixing(Products(np.outer(x, x)))
    np.testing.assert_allclose(M[0], np.array([1, 2 / 3, 2 / 3, 2 / 3, 0]) / 3)
    np.testing.assert_allclose(M[1], np.array([1, 1, 0, 1, 0]) / 3)
    np.testing.assert_allclose(M.sum(1), 1)


@pytest.mark.parametrize("seed", range(20))
def test_mixing_with_shared_places_keeps_the_bound_of_the_lemma(seed):
    """sum_S |y_i - mean_S|^2 <= 8f/(n - f) sum_S |x_i - mean_S|^2 (Allouah et al., lemma 5)."""
    rng = np.random.default_rng(seed)
    n, f = 7, int(rng.integers(1, 4))
    X = rng.integers(-2, 3, (n, 2)).astype(float)
    M, _ = NNM(f).mixing(Products(X @ X.T))
    for kept in combinations(range(n), n - f):
        S = list(kept)
        spread = ((X[S] - X[S].mean(0)) ** 2).sum()
        assert ((M[S] @ X - X[S].mean(0)) ** 2).sum() <= 8 * f / (n - f) * spread + 1e-12


def test_a_stage_with_too_large_f_is_refused():
    for rule in (NNM(f=3) >> TrimmedMean(f=1), (NNM(f=3) >> NNM(f=1)) >> CAF(f=1)):
        with pytest.raises(ValueError, match=r"NNM\(f=3\) does not allow f=3 with n=6.*is 2"):
            rule(torch.ones(6, 2))
    with pytest.raises(ValueError, match="largest legal f is 2"):
        (NNM(f=3) >> NNM(f=1)).check(6)


def test_unusable_rows_count_against_both_stages():
    X = np.random.default_rng(2).normal(size=(9, 4))
    X[0, 0] = np.nan
    out = (NNM(f=2) >> TrimmedMean(f=2))(X)
    np.testing.assert_allclose(out, TrimmedMean(f=1)(mixed(X[1:], 1)), atol=1e-9)


def test_mixing_for_fewer_than_the_rule_withstands_promises_nothing():
    assert (NNM(f=1) >> TrimmedMean(f=1)).kappa(11) is not None
    for pre in (NNM(f=0), NNM(f=0) >> NNM(f=1), NNM(f=1) >> NNM(f=0)):
        mixed_for_none = pre >> TrimmedMean(f=1)
        assert mixed_for_none.kappa(11) is None
        assert Facts.ROBUST not in mixed_for_none.facts
    assert Facts.ROBUST in (NNM(f=1) >> TrimmedMean(f=1)).facts
    X = np.random.default_rng(3).normal(size=(11, 2))
    X[0] = 1e6
    assert np.abs((NNM(f=0) >> TrimmedMean(f=1))(X)).min() > 1e4


def test_neighbours_are_counted_and_averaged_by_weight():
    rng = np.random.default_rng(4)
    X, p = rng.normal(size=(9, 4)), rng.uniform(0.5, 1.5, 9)
    p /= p.sum()
    amount, expected = 1 - np.sort(p)[-2:].sum(), np.zeros_like(X)
    for i in range(9):
        left = amount
        for j in np.argsort(((X - X[i]) ** 2).sum(1)):
            taken = min(left, p[j])
            left, expected[i] = left - taken, expected[i] + taken / amount * X[j]
    M, share = NNM(f=2).mixing(Products(X @ X.T, share=p))
    np.testing.assert_allclose(M @ X, expected, atol=1e-12)
    assert share is p
    np.testing.assert_allclose((NNM(f=2) >> Mean(f=2))(X, p), p @ expected, atol=1e-12)


def test_a_composition_refuses_what_its_rule_refuses():
    with pytest.raises(ValueError, match="CAF has no such limit"):
        (NNM(f=10) >> SMEA(f=10)).check(40)
