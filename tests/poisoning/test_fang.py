"""Directed deviation against slow transcriptions, and the published order of damage."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from fedsieve.aggregation import TrimmedMean
from fedsieve.poisoning import ALIE, FangKrum, FangTrimmedMean
from fedsieve.poisoning.fang_krum import largest_lambda


def beyond(values, *, falling):
    """Where the paper draws, beyond the honest values of one coordinate."""
    low, high = min(values), max(values)
    if falling:
        return (high, 2 * high) if high > 0 else (high, high / 2)
    return (low / 2, low) if low > 0 else (2 * low, low)


def interval(values, *, partial):
    """Where the paper draws the malicious values of one coordinate."""
    mean = sum(values) / len(values)
    if partial:
        s = math.sqrt(sum((v - mean) ** 2 for v in values) / len(values))
        return (mean + 3 * s, mean + 4 * s) if mean < 0 else (mean - 4 * s, mean - 3 * s)
    return beyond(values, falling=mean < 0)


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


class Half:
    """A map from R^2k to R^k that mixes coordinates: every pair by its own angle."""

    def __init__(self, k):
        angle = torch.arange(k, dtype=torch.float64)
        self.k, self.d, self.maps = k, 2 * k, ()
        self.matrix = torch.cat([angle.cos().diag(), angle.sin().diag()], dim=1)

    def project(self, x):
        return x @ self.matrix.T

    def lift(self, y):
        return y @ self.matrix


def published(theta, updates, shares):
    """The malicious updates, from local models w_i = theta + x_i and draws in [0, 1]."""
    rows = []
    for share in shares.tolist():
        row = []
        for j, at in enumerate(theta.tolist()):
            models = [at + x for x in updates[:, j].tolist()]
            start, stop = beyond(models, falling=sum(w - at for w in models) < 0)
            row.append(start + share[j] * (stop - start) - at)
        rows.append(row)
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("mixed", [False, True])
def test_in_the_space_of_parameters_whole_models_are_drawn(scene, seed, mixed):
    k, subspace = 6, Half(6) if mixed else None
    d = 2 * k if mixed else k
    theta = 3 * torch.randn(d, dtype=torch.float64, generator=torch.manual_seed(seed))
    s = scene(h=7, f=3, k=k, seed=seed, offset=0.1, model=theta, subspace=subspace)
    rows = FangTrimmedMean(space="parameters").craft(s)
    shares = torch.from_numpy(np.random.default_rng(seed + 1).random((3, d)))
    torch.testing.assert_close(rows, s.project(published(theta, s.lift(s.honest), shares)))


def test_a_model_at_zero_leaves_the_updates(scene):
    for model in (torch.zeros(5, dtype=torch.float64), None):  # or numbers of another kind
        rows = FangTrimmedMean(space="parameters").craft(scene(f=3, model=model))
        torch.testing.assert_close(rows, FangTrimmedMean().craft(scene(f=3)))


class Midway:
    """Draws the middle of every interval."""

    def random(self, shape):
        return np.full(shape, 0.5)


def test_a_message_that_is_a_gradient_goes_against_the_model_alike(scene):
    """theta - x in place of theta + x: everything is mirrored."""
    s, attack = scene(rng=Midway()), FangTrimmedMean(space="parameters")
    mirrored = replace(s, honest=-s.honest, model=-s.model)
    torch.testing.assert_close(attack.craft(mirrored), -attack.craft(s))


def test_the_deviation_is_of_the_size_of_the_model(scene):
    honest, damage = 0.01 * scene(h=14, k=50, offset=0.0).honest, []
    for size in (0.0, 1.0, 10.0):
        s = scene(honest=honest, f=6, k=50, model=torch.full((50,), size, dtype=torch.float64))
        rows = FangTrimmedMean(space="parameters").craft(s)
        damage.append(float((torch.cat([s.honest, rows]).mean(dim=0) - s.mean).norm()))
    assert damage[1] > 10 * damage[0]
    assert damage[2] == pytest.approx(10 * damage[1], rel=0.1)


@pytest.mark.parametrize("space", ["updates", "parameters"])
@pytest.mark.parametrize("f", [0, 3])
def test_alike_they_send_the_first_draw(scene, space, f):
    rows = FangTrimmedMean(space=space, alike=True).craft(scene(f=f))
    alone = FangTrimmedMean(space=space).craft(scene(f=f))[:1]
    torch.testing.assert_close(rows, alone.expand(f, -1))


def test_spaces_that_there_are_not():
    with pytest.raises(ValueError, match="space='models' is not one of updates, parameters"):
        FangTrimmedMean(space="models")
    with pytest.raises(ValueError, match=r"space='parameters' with partial=True: .* leave space"):
        FangTrimmedMean(partial=True, space="parameters")


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
