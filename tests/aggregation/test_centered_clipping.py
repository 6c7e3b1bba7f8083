"""Centered clipping against the published loop on the messages themselves."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fedsieve.aggregation import NNM, CenteredClipping, Facts, aggregate_blocks


def loop(X, v, tau, iterations, p=None):
    p = np.full(len(X), 1 / len(X)) if p is None else p / p.sum()
    for _ in range(iterations):
        length = np.linalg.norm(X - v, axis=1)
        v = v + p @ ((X - v) * np.minimum(1, tau / np.maximum(length, 1e-300))[:, None])
    return v


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e120])
def test_equals_the_published_loop(scale):
    rng = np.random.default_rng(0)
    for _ in range(20):
        X, v0 = scale * rng.normal(size=(9, 5)), scale * rng.normal(size=5)
        tau, L = scale * rng.uniform(0.1, 4), int(rng.integers(1, 5))
        rule = CenteredClipping(2, tau=tau, iterations=L, v0=torch.from_numpy(v0))
        np.testing.assert_allclose(rule(X), loop(X, v0, tau, L), rtol=1e-9, atol=1e-12 * scale)
        p = rng.uniform(1, 1.2, 9)
        np.testing.assert_allclose(rule(X, weights=p), loop(X, v0, tau, L, p), atol=1e-9 * scale)


EXTREMES = {
    torch.float64: [0.0, 1e-320, 1e-300, 1e-200, 1e-100, 1.0, 1e100, 1e200, 1e300],
    torch.float32: [0.0, 1e-41, 1e-37, 1e-20, 1.0, 1e20, 1e37],
}


@pytest.mark.parametrize("dtype", EXTREMES)
def test_lengths_at_the_ends_of_the_numbers(dtype):
    """Right to the digits of the longest vector, wherever messages, centre and radius lie."""
    rng = np.random.default_rng(4)
    X, v0 = (torch.from_numpy(rng.normal(size=shape)) for shape in ((9, 5), 5))
    for a in EXTREMES[dtype]:
        for b in EXTREMES[dtype]:
            Y, v = (a * X).to(dtype), (b * v0).to(dtype)
            size = max(a, b) or 1.0
            for tau in (1e-320, 1e-200, 1.0, 1e200, 1e308):
                out = CenteredClipping(2, tau=tau, v0=v)(Y)
                with np.errstate(over="ignore"):
                    slow = loop(Y.double().numpy() / size, v.double().numpy() / size, tau / size, 3)
                digits = 1e-5 if size > torch.finfo(dtype).tiny else 2e-2
                np.testing.assert_allclose(out.double() / size, slow, atol=digits)
            assert CenteredClipping(2, v0=v)(Y).isfinite().all()


def test_a_centre_far_off_is_left_where_it_is_by_a_short_radius():
    X = np.random.default_rng(5).normal(size=(9, 3))
    rule = CenteredClipping(2, tau=1.0, v0=np.full(3, 1e200))
    np.testing.assert_array_equal(rule(X), np.full(3, 1e200))
    parts = aggregate_blocks(rule, [X[:, :1], X[:, 1:]]).vector
    np.testing.assert_array_equal(parts, np.full(3, 1e200))


def test_starts_from_the_most_central_message():
    X = np.random.default_rng(2).normal(size=(9, 5))
    X[0] = 1e30
    near = X[1:]  # a row x is farther from the first one than others by -<x, its direction>
    summed = np.linalg.norm(near[:, None] - near, axis=2).sum(1) - near.sum(1) / 5**0.5
    start = near[summed.argmin()]
    assert summed.argmin() != 0
    rule = CenteredClipping(2, tau=0.5)
    np.testing.assert_allclose(rule(X), loop(X, start, 0.5, 3), atol=1e-12)


def test_a_radius_of_their_own_clips_at_most_f():
    X = np.random.default_rng(2).normal(size=(9, 5))
    start = X[np.linalg.norm(X[:, None] - X, axis=2).sum(1).argmin()]
    tau = np.sort(np.linalg.norm(X - start, axis=1))[6]
    rule = CenteredClipping(2, iterations=1)
    np.testing.assert_allclose(rule(X), loop(X, start, tau, 1), atol=1e-12)


def test_behind_a_mixing_the_centre_stays():
    X, v0 = np.random.default_rng(3).normal(size=(9, 5)), np.full(5, 0.3)
    D = ((X[:, None] - X) ** 2).sum(2)
    Y = np.stack([X[np.argsort(row)[:7]].mean(0) for row in D])
    rule = NNM(2) >> CenteredClipping(2, tau=0.2, v0=torch.from_numpy(v0))
    np.testing.assert_allclose(rule(X), loop(Y, v0, 0.2, 3), atol=1e-12)


def test_the_aggregate_is_the_next_centre():
    X = torch.randn(9, 5, generator=torch.Generator().manual_seed(0))
    rule = CenteredClipping(2, tau=0.1)
    first = rule(X)
    second = rule.for_round(1, first)
    assert torch.equal(second(X), replace(rule, v0=first)(X))
    assert torch.equal((NNM(2) >> rule).for_round(1, first).rule.v0, first)
    assert rule.for_round(1, None) == rule


def test_the_centre_takes_the_weight_that_is_left():
    X = torch.full((9, 2), 10.0)
    rule = CenteredClipping(2, tau=1.0, iterations=1, v0=torch.zeros(2))
    found = rule.aggregate(X)
    assert found.weights.sum() == pytest.approx(1 / 200**0.5)
    assert found.vector.norm() == pytest.approx(1)
    assert Facts.CONVEX not in rule.facts


@pytest.mark.parametrize(
    "setting", [{"tau": 0.0}, {"tau": np.inf}, {"iterations": 0}, {"v0": torch.tensor([np.nan])}]
)
def test_settings_are_checked(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        CenteredClipping(1, **setting)


def test_a_centre_of_another_length_is_refused():
    with pytest.raises(ValueError, match="v0 has 3 numbers; allowed are 2"):
        CenteredClipping(1, v0=torch.zeros(3))(torch.ones(5, 2))
