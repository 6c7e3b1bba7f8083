"""Static and adaptive clipping against clipped messages."""

import numpy as np
import pytest

from fedsieve.aggregation import ARC, CAF, NNM, Bucketing, Clipping, GramRule, Mean, TrimmedMean


def shortened(X, C):
    norms = np.linalg.norm(X, axis=1)
    return X * np.minimum(1, C / np.maximum(norms, 1e-300))[:, None]


RULES = [Mean(f=2), CAF(f=2), TrimmedMean(f=2), NNM(f=2) >> CAF(f=2)]


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("scale", [1.0, 1e-100, 1e100])
def test_clipping_equals_the_rule_on_clipped_messages(rule, scale):
    rng = np.random.default_rng(0)
    for _ in range(10):
        X = scale * rng.normal(size=(9, 4)) * rng.uniform(0.2, 3, (9, 1))
        norms = np.linalg.norm(X, axis=1)
        for C, radius in ((scale, scale), (None, np.sort(norms)[4])):
            found = (Clipping(C) >> rule)(X)
            np.testing.assert_allclose(found, rule(shortened(X, radius)), atol=1e-9 * scale)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_arc_clips_the_k_longest_to_the_next(rule):
    rng = np.random.default_rng(1)
    for _ in range(10):
        X = rng.normal(size=(9, 4)) * rng.uniform(0.2, 3, (9, 1))
        k = 3  # floor(2 (2/9) 7)
        radius = np.sort(np.linalg.norm(X, axis=1))[::-1][k]
        np.testing.assert_allclose((ARC(2) >> rule)(X), rule(shortened(X, radius)), atol=1e-9)


def test_clipping_between_other_stages():
    X = np.random.default_rng(2).normal(size=(9, 4))
    D = ((X[:, None] - X) ** 2).sum(2)
    Y = shortened(np.stack([X[np.argsort(row)[:7]].mean(0) for row in D]), 0.4)
    rule = NNM(2) >> Clipping(0.4) >> CAF(2)
    np.testing.assert_allclose(rule(X), CAF(2)(Y), atol=1e-9)
    assert not isinstance(rule, GramRule)
    assert isinstance(NNM(2) >> Bucketing(2) >> CAF(2), GramRule)


def test_the_origin_takes_the_weight_that_is_left():
    weights = (Clipping(1.0) >> Mean()).aggregate(np.array([[4.0], [0.5]])).weights
    assert weights.tolist() == pytest.approx([1 / 8, 1 / 2])


def test_nothing_is_clipped_without_byzantine_clients():
    X = np.random.default_rng(3).normal(size=(9, 4))
    np.testing.assert_allclose((ARC(0) >> Mean())(X), X.mean(0))


@pytest.mark.parametrize("C", [0.0, -1.0, np.inf, np.nan])
def test_settings_are_checked(C):
    with pytest.raises(ValueError, match="C="):
        Clipping(C)
