"""The first attacks against slow transcriptions, and what every searched strength must reach."""

import math
from statistics import NormalDist

import numpy as np
import pytest
import torch

from fedsieve.aggregation import CAF, NNM, Mean, TrimmedMean
from fedsieve.poisoning import (
    ALIE,
    FOE,
    Knowledge,
    LabelFlip,
    MessageAttack,
    NoAttack,
    RecordAttack,
    Scene,
    SignFlip,
    published_z,
)
from fedsieve.registry import components

ATTACKS = {c.name: c for c in components("attack")}
SEARCHED = ["alie", "foe", "line-search", "mask-aware", "sign-flip", "sketch-collision"]
"""Attacks that search their strength where none is given."""


def scene(h=8, f=2, k=5, rule=None, seed=0, own=True, **more):
    rng = np.random.default_rng(seed)
    honest = torch.from_numpy(rng.normal(0.5, 1, (h, k))).float()
    mine = torch.from_numpy(rng.normal(0.5, 1, (f, k))).float() if own else None
    return Scene(honest, f, rule or Mean(f=f), np.random.default_rng(1), own=mine, **more)


def test_the_names_of_the_configuration_exist():
    assert set(ATTACKS) >= {"none", "label-flip", *SEARCHED}


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("strength", [None, 0.5])
def test_builds_from_a_configuration(name, strength):
    attack = ATTACKS[name].build(strength=strength)
    assert isinstance(attack, RecordAttack | MessageAttack)
    assert isinstance(attack.knowledge, Knowledge)
    assert ATTACKS[name].summary


@pytest.mark.parametrize("name", SEARCHED)
def test_a_line_search_needs_the_rule_and_a_fixed_strength_does_not(name):
    searched, fixed = ATTACKS[name].build(), ATTACKS[name].build(strength=1.0)
    assert searched.knowledge & ~Knowledge.PROJECTION == Knowledge.UPDATES | Knowledge.RULE
    assert Knowledge.RULE not in fixed.knowledge


@pytest.mark.parametrize("name", SEARCHED)
@pytest.mark.parametrize(
    "rule", [Mean(f=4), TrimmedMean(f=4), CAF(f=4), NNM(f=4) >> CAF(f=4)], ids=str
)
def test_no_fixed_strength_of_a_fine_grid_does_much_more_damage(name, rule):
    s = scene(h=16, f=4, k=100, rule=rule)

    def damage(attack):
        stack = torch.cat([s.honest, attack.craft(s)])
        return float((rule(stack) - s.mean).norm())

    factory = ATTACKS[name].factory
    grid = [damage(factory(strength=c)) for c in np.linspace(0, 10, 101)]
    found = damage(factory())
    assert found >= 0.85 * max(grid)  # spikes between the points of the search are missed
    assert found >= grid[0]  # 0 is among the points
    assert found > 1.05 * min(grid)


def test_alie():
    s = scene()
    X = s.honest.double().numpy()
    for j in range(5):
        mu = sum(X[:, j]) / 8
        std = math.sqrt(sum((x - mu) ** 2 for x in X[:, j]) / 8)
        rows = ALIE(strength=1.5).craft(s)
        assert rows[:, j].tolist() == pytest.approx([mu - 1.5 * std] * 2, rel=1e-5)


def test_alie_searches_both_directions():
    honest = torch.tensor([[0.0], [0.0], [0.0], [0.0], [4.0]])  # skewed: the far side is free
    for sign in (1, -1):
        s = Scene(sign * honest, 1, TrimmedMean(f=1), np.random.default_rng(0))
        row = ALIE().craft(s)
        assert sign * float(row) <= 0
        assert float(TrimmedMean(f=1)(torch.cat([s.honest, row]))) == 0


def test_published_z():
    # n = 50, f = 12: t = 26 - 12 = 14 supporters, Phi(z) = (38 - 14) / 38
    z = published_z(50, 12)
    assert 0.5 * (1 + math.erf(z / math.sqrt(2))) == pytest.approx(24 / 38)
    for f in (0, 5):
        with pytest.raises(ValueError, match=rf"f={f} with n=10 must lie in 1\.\.4"):
            published_z(10, f)


def test_published_z_never_turns_round():
    """The formula is below 0 for f = 1 and even n alone, and 0 for f = 1 and odd n."""
    for n in range(3, 60):
        for f in range(1, (n - 1) // 2 + 1):
            supporters = n // 2 + 1 - f
            formula = NormalDist().inv_cdf((n - f - supporters) / (n - f))
            assert published_z(n, f) == pytest.approx(max(formula, 0), abs=1e-12)
            assert (formula < -1e-9) == (f == 1 and n % 2 == 0)
    assert published_z(4, 1) == published_z(5, 1) == 0


def test_foe():
    s = scene()
    mean = s.honest.double().numpy().mean(0)
    np.testing.assert_allclose(FOE(strength=1.1).craft(s), [-1.1 * mean] * 2, rtol=1e-5)


def test_sign_flip():
    s = scene()
    assert torch.equal(SignFlip(strength=3).craft(s), -3 * s.own)
    without = scene(own=False)
    torch.testing.assert_close(SignFlip(strength=3).craft(without), -3 * without.mean.expand(2, -1))


def test_label_flip():
    labels, rng = torch.tensor([0, 1, 2, 9]), np.random.default_rng(0)
    assert LabelFlip().poison_labels(labels, 10, rng).tolist() == [9, 8, 7, 0]
    assert LabelFlip().poison_labels(torch.tensor([0, 1, 2]), 3, rng).tolist() == [2, 1, 0]
    assert labels.tolist() == [0, 1, 2, 9]
    assert LabelFlip().poison_labels(labels[:0], 10, rng).shape == (0,)
    with pytest.raises(ValueError, match="classes=1"):
        LabelFlip().poison_labels(labels, 1, rng)


def test_label_flip_of_a_share():
    labels = torch.zeros(10_000, dtype=torch.int64)
    flipped = LabelFlip(strength=0.3).poison_labels(labels, 10, np.random.default_rng(0))
    assert set(flipped.tolist()) == {0, 9}
    # four standard errors of a share of 0.3 among 10,000
    assert float((flipped == 9).float().mean()) == pytest.approx(0.3, abs=4 * 0.0046)


def test_no_attack():
    labels = torch.tensor([1, 2])
    assert NoAttack().poison_labels(labels, 3, np.random.default_rng(0)).tolist() == [1, 2]


@pytest.mark.parametrize("factory", [FOE, SignFlip])
@pytest.mark.parametrize("strength", [-1.0, math.inf, math.nan])
def test_wrong_strengths_are_refused(factory, strength):
    with pytest.raises(ValueError, match=f"strength={strength} must be finite and >= 0"):
        factory(strength=strength)


def test_alie_may_go_either_way_but_not_to_infinity():
    ALIE(strength=-1.5)
    with pytest.raises(ValueError, match="strength=inf must be finite"):
        ALIE(strength=math.inf)


@pytest.mark.parametrize("strength", [-0.1, 1.1, math.nan])
def test_wrong_shares_are_refused(strength):
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        LabelFlip(strength=strength)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"honest": torch.ones(3)}, "honest has shape"),
        ({"honest": torch.ones(0, 3)}, "honest has shape"),
        ({"f": -1}, "f=-1"),
        ({"ids": (1, 2)}, r"ids=\(1, 2\) must name the 4 honest rows"),
        ({"own": torch.ones(2, 4)}, r"own has shape \(2, 4\); allowed is \(2, 3\)"),
    ],
)
def test_a_scene_must_fit_together(change, message):
    fields = {"honest": torch.ones(4, 3), "f": 2, "aggregate": Mean(f=2)}
    with pytest.raises(ValueError, match=message):
        Scene(**(fields | change), rng=np.random.default_rng(0))
