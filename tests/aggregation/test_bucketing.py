"""Bucketing against materialised bucket means."""

import numpy as np
import pytest

from fedsieve.aggregation import CAF, NNM, Bucketing, GramRule, Krum, Mean, TrimmedMean


def buckets(n, s, seed):
    order = np.random.default_rng(seed).permutation(n)
    return [order[start : start + s] for start in range(0, n, s)]


@pytest.mark.parametrize("s", [1, 2, 3, 9, 20])
@pytest.mark.parametrize("rule", [Mean(), CAF(0), TrimmedMean(0)], ids=str)
def test_equals_the_rule_on_bucket_means(rule, s):
    X = np.random.default_rng(0).normal(size=(10, 4))
    Y = np.stack([X[b].mean(0) for b in buckets(10, s, 3)])
    np.testing.assert_allclose((Bucketing(s, 3) >> rule)(X), rule(Y), atol=1e-12)


def test_client_weights_count_inside_a_bucket_and_for_it():
    X, p = np.random.default_rng(1).normal(size=(10, 4)), np.arange(1.0, 11)
    made = buckets(10, 3, 0)
    Y = np.stack([np.average(X[b], axis=0, weights=p[b]) for b in made])
    rule = Bucketing(3) >> Mean()
    expected = np.average(Y, axis=0, weights=[p[b].mean() for b in made])
    np.testing.assert_allclose(rule(X, weights=p), expected)


def test_the_inner_rule_must_be_legal_for_the_buckets():
    assert (Bucketing(2) >> Krum(f=4)).breakdown(21) == 4
    assert (Bucketing(2) >> Krum(f=4)).breakdown(20) == 3
    chain = NNM(f=4) >> Bucketing(s=2) >> Krum(f=4)
    assert isinstance(chain, GramRule)
    chain(np.random.default_rng(2).normal(size=(22, 3)))
    with pytest.raises(ValueError, match="f=4 with n=20; largest legal f is 3"):
        chain(np.ones((20, 3)))
    # behind bucketing, mixing sees the buckets
    assert (Bucketing(2) >> NNM(f=4) >> Mean(4)).breakdown(16) == 3


def test_a_chain_equals_its_stages():
    X = np.random.default_rng(4).normal(size=(22, 3))
    D = ((X[:, None] - X) ** 2).sum(2)
    Y = np.stack([X[np.argsort(row)[:18]].mean(0) for row in D])
    Z = np.stack([Y[b].mean(0) for b in buckets(22, 2, 7)])
    rule = NNM(f=4) >> Bucketing(s=2, seed=7) >> Krum(f=4)
    np.testing.assert_allclose(rule(X), Krum(f=4)(Z))


def test_every_round_has_its_own_buckets():
    X = np.random.default_rng(5).normal(size=(10, 4))
    rule = NNM(f=1) >> Bucketing(2) >> Krum(f=1)
    assert rule.for_round(9) == NNM(f=1) >> Bucketing(2, seed=9) >> Krum(f=1)
    assert not np.array_equal(rule.for_round(1)(X), rule.for_round(2)(X))


@pytest.mark.parametrize("setting", [{"s": 0}, {"s": 2.0}, {"seed": -1}])
def test_settings_are_checked(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        Bucketing(**setting)
