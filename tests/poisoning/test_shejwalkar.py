"""Min-Max, Min-Sum and AGR-tailored against the bisection of the paper; the general line search."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedsieve.aggregation import CAF, Mean, TrimmedMean
from fedsieve.poisoning import AGRTailored, LineSearch, MinMax, MinSum, line_search

DIRECTIONS = ["std", "mean", "sign"]


def direction(name, X):
    mu = X.mean(dim=0)
    if name == "mean":
        return -mu / mu.norm()
    return -mu.sign() if name == "sign" else -X.std(dim=0, correction=0)


def bisected(accepts):
    """The largest gamma that is accepted, by the paper's steps: from 50, until they are tiny."""
    gamma, step, best = 50.0, 50.0, 0.0
    while step > 1e-10:
        step /= 2
        if accepts(gamma):
            best = max(best, gamma)
            gamma += step
        else:
            gamma -= step
    return best


def min_max(X):
    limit = max(float((a - b).norm()) for a in X for b in X)
    return lambda m: max(float((m - x).norm()) for x in X) <= limit


def min_sum(X):
    limit = max(sum(float((a - b).square().sum()) for b in X) for a in X)
    return lambda m: sum(float((m - x).square().sum()) for x in X) <= limit


@pytest.mark.parametrize("name", DIRECTIONS)
@pytest.mark.parametrize(("factory", "allowed"), [(MinMax, min_max), (MinSum, min_sum)])
@pytest.mark.parametrize("partial", [False, True])
def test_the_closed_form_is_the_bisection(scene, factory, allowed, name, partial):
    s = scene(h=7, f=4, k=6)
    X = s.own if partial else s.honest
    p, accepts = direction(name, X), allowed(X)
    gamma = bisected(lambda g: accepts(X.mean(dim=0) + g * p))
    rows = factory(direction=name, partial=partial).craft(s)
    torch.testing.assert_close(rows, (X.mean(dim=0) + gamma * p).expand(4, -1))
    assert gamma > 0


def test_min_sum_is_the_more_careful_one(scene):
    s = scene(h=12, k=30)
    far, near = (
        float((attack.craft(s)[0] - s.mean).norm()) for attack in (MinMax("mean"), MinSum("mean"))
    )
    assert 0 < near <= far


@pytest.mark.parametrize("factory", [MinMax, MinSum, AGRTailored])
def test_unknown_directions_are_refused(factory):
    with pytest.raises(ValueError, match="direction='up' is not one of mean, sign, std"):
        factory(direction="up")


def medoid(stack):
    """A rule of one choice, like Krum: the row nearest to all others."""
    return stack[torch.cdist(stack, stack).square().sum(dim=1).argmin()]


@pytest.mark.parametrize("name", DIRECTIONS)
def test_agr_tailored_goes_as_far_as_a_choosing_rule_accepts(scene, name):
    s = scene(h=12, f=5, k=20, aggregate=medoid)
    rows = AGRTailored(direction=name).craft(s)
    assert torch.equal(medoid(torch.cat([s.honest, rows])), rows[0])
    far = s.mean + 1.001 * (rows - s.mean)
    assert not torch.equal(medoid(torch.cat([s.honest, far])), far[0])


@pytest.mark.parametrize("rule", [TrimmedMean(f=4), CAF(f=4)], ids=str)
def test_agr_tailored_is_accepted_by_a_robust_rule_and_asks_the_gram_where_it_can(scene, rule):
    s = scene(h=16, f=4, k=50, aggregate=rule)
    rows = AGRTailored().craft(s)
    moved = rule(torch.cat([s.honest, rows])) - s.mean
    p = rows[0] - s.mean
    assert float(moved @ p) >= 4 / 20 / 2 * float(p @ p)
    assert float(p.norm()) > 0.2 * float(s.std.norm())
    if isinstance(rule, CAF):
        by_gram = scene(h=16, f=4, k=50, aggregate=None, weigh=rule.weights)
        torch.testing.assert_close(AGRTailored().craft(by_gram), rows)


def test_agr_tailored_ends_where_the_search_ends_against_the_mean(scene):
    s = scene(h=16, f=4, aggregate=Mean())
    rows = AGRTailored().craft(s)
    assert 19 < float((rows[0] - s.mean).norm() / s.std.norm()) <= 20


@pytest.mark.parametrize("name", ["std", "mean", "sign", "own", "random"])
def test_line_search_along_any_direction_finds_what_a_fine_grid_finds(scene, name):
    rule = TrimmedMean(f=4)
    s = scene(h=16, f=4, k=60, aggregate=rule)

    def damage(attack):
        s.rng.bit_generator.state = np.random.default_rng(7).bit_generator.state
        return float((rule(torch.cat([s.honest, attack.craft(s)])) - s.mean).norm())

    grid = [damage(LineSearch(direction=name, strength=c)) for c in np.linspace(-5, 5, 41)]
    assert damage(LineSearch(direction=name)) >= 0.9 * max(grid)


class Stretched:
    """A subspace whose lift makes the last coordinate ten times as long."""

    d = k = 5
    maps = None
    scale = torch.tensor([1.0, 1, 1, 1, 10], dtype=torch.float64)

    def project(self, x):
        return x * self.scale

    lift = project

    def to(self, device):
        return self


@pytest.mark.parametrize("by_gram", [False, True])
def test_damage_is_measured_in_the_model(scene, by_gram):
    rule = CAF(f=2)
    weigh = rule.weights if by_gram else None
    s = scene(aggregate=rule, weigh=weigh, subspace=Stretched())
    found = line_search(s, -s.std, s.mean)
    moved = rule(torch.cat([s.honest, found.rows])) - s.mean
    assert found.damage == pytest.approx(float((moved * Stretched.scale).norm()))
    assert found.damage > 1.01 * float(moved.norm())
