"""Directed deviation against slow transcriptions, and the published order of damage."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fedsieve.aggregation import TrimmedMean
from fedsieve.poisoning import ALIE, FangKrum, FangTrimmedMean
from fedsieve.poisoning.fang_krum import largest_lambda


def interval(values, *, partial):
    """Where the paper draws the malicious values of one coordinate."""
    mean = sum(values) / len(values)
    if partial:
        s = math.sqrt(sum((v - mean) ** 2 for v in values) / len(values))
        return (mean + 3 * s, mean + 4 * s) if mean < 0 else (mean - 4 * s, mean - 3 * s)
    low, high = min(values), max(values)
    if mean < 0:
        return (high, 2 * high) if high > 0 else (high, high / 2)
    return (low / 2, low) if low > 0 else (2 * low, low)


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("offset", [-5.0, -0.3, 0.3, 5.0])  # all signs of min, max and mean
def test_values_lie_where_the_paper_has_them_and_fill_it(scene, partial, offset):
    s = scene(h=6, f=400, k=3, offset=offset)
    rows = FangTrimmedMean(partial=partial).craft(s)
    seen = s.own if partial else s.honest
    for j in range(3):
        start, stop = interval(seen[:, j].tolist(), partial=partial)
        assert float(rows[:, j].min()) >= start - 1e-9
        assert float(rows[:, j].max()) <= stop + 1e-9
        width = (stop - start) / math.sqrt(12)
        assert float(rows[:, j].std()) == pytest.approx(width, rel=0.15)
        assert float(rows[:, j].mean()) == pytest.approx((start + stop) / 2, abs=0.25 * width)


def test_both_directions_deviate(scene):
    """A public implementation multiplies both bounds by (deviation > 0): one half does nothing."""
    offset = torch.tensor([3.0, -3.0])
    s = scene(honest=scene(k=2, offset=0.0).honest + offset, k=2)
    rows = FangTrimmedMean().craft(s)
    assert (rows[:, 0] < s.honest[:, 0].min()).all()
    assert (rows[:, 1] > s.honest[:, 1].max()).all()


def krum(stack, f):
    """Index of Krum's choice, by its definition."""
    n = len(stack)
    scores = []
    for i in range(n):
        distances = sorted(float((stack[i] - stack[j]).square().sum()) for j in range(n) if j != i)
        scores.append(sum(distances[: n - f - 2]))
    return int(np.argmin(scores))


@pytest.mark.parametrize("seed", range(3))
def test_krum_chooses_the_deviation_and_no_larger_one_of_the_series(scene, seed):
    s = scene(h=14, f=6, k=12, seed=seed)
    sign = s.mean.sign()
    found = largest_lambda(s.honest, sign, 6)

    def chosen(strength):
        return krum(torch.cat([s.honest, (-strength * sign).expand(6, -1)]), 6) >= 14

    scores = []
    for i in range(14):
        near = sorted(float((s.honest[i] - x).square().sum()) for x in s.honest)[1:13]
        scores.append(sum(near))
    start = math.sqrt(min(scores) / ((20 - 12 - 1) * 12))
    start += max(float(x.norm()) for x in s.honest) / math.sqrt(12)
    series = [start / 2**i for i in range(17)]
    best = next(value for value in series if chosen(value))
    assert found == pytest.approx(best)
    rows = FangKrum().craft(s)
    assert krum(torch.cat([s.honest, rows]), 6) >= 14
    torch.testing.assert_close(rows[0], -found * sign)
    far = (rows - rows[0]).norm(dim=1)
    assert 0 < float(far.max()) <= 0.01 * float(rows[0].norm())


def test_krum_is_led_away_without_seeing_anybody(scene):
    s = scene(h=14, f=6, k=12)
    rows = FangKrum(partial=True).craft(s)
    assert rows[0] @ s.mean < 0
    assert krum(torch.cat([s.honest, rows]), 6) >= 14


def test_a_deviation_that_krum_never_chooses_is_not_sent(scene):
    tight = 5 + 1e-9 * torch.randn(6, 4, dtype=torch.float64, generator=torch.manual_seed(0))
    s = scene(honest=tight, f=1, k=4)
    assert FangKrum().craft(s).eq(0).all()


@pytest.mark.parametrize("seed", range(3))
def test_fang_beats_alie_on_the_trimmed_mean(scene, seed):
    """The published order; both as published, ALIE in the paper's direction."""
    s = scene(h=80, f=20, k=200, seed=seed, offset=0.2)
    rule = TrimmedMean(f=20)

    def damage(attack):
        return float((rule(torch.cat([s.honest, attack.craft(s)])) - s.mean).norm())

    quiet = damage(ALIE(strength=0.0))
    published = damage(ALIE(strength="published"))
    assert damage(FangTrimmedMean()) > 1.2 * published > quiet
    assert damage(FangTrimmedMean(partial=True)) > 1.2 * published
