"""Mimic: it learns the top direction, holds its choice, and hurts medians of unlike clients."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fedsieve.aggregation import Bucketing, Median
from fedsieve.compression.projections import RandomBasis
from fedsieve.learning.layout import Layout, Slot
from fedsieve.poisoning import ALIE, Mimic


def unlike(seed, h=12, k=30, direction=None):
    """Messages that differ most along one direction, client 5 farthest."""
    rng = np.random.default_rng(seed)
    along = torch.zeros(k, dtype=torch.float64) if direction is None else direction
    if direction is None:
        along[3] = 1
    place = torch.linspace(-1, 1, h, dtype=torch.float64)
    place[5] = 3
    return torch.from_numpy(rng.normal(0, 0.3, (h, k))) + place[:, None] * along


def learnt(scene, attack, rounds, messages=unlike, **more):
    memory, rows = {}, None
    for t in range(rounds):
        s = scene(honest=messages(t), k=30, memory=memory, **more)
        rows = attack.craft(s)
        memory = attack.remember(s, rows)
    return memory, rows, s


def test_one_round_against_the_transcription(scene):
    s = scene(h=4, k=3)
    first = Mimic().remember(s, s.own)
    s = replace(scene(h=4, k=3, seed=5), memory=first)
    second = Mimic().remember(s, s.own)
    mu = (first["mean"] + s.honest.mean(dim=0)) / 2
    u = sum(((x - mu) @ first["direction"]) * (x - mu) for x in s.honest)
    z = first["direction"] / 2 + u / u.norm() / 2
    z /= z.norm()
    torch.testing.assert_close(second["mean"], mu)
    torch.testing.assert_close(second["direction"], z)
    scores = first["scores"] + torch.stack([(x - mu) @ z for x in s.honest])
    torch.testing.assert_close(second["scores"], scores)
    assert int(second["rounds"]) == 2


def test_it_learns_the_top_direction_and_copies_the_farthest_client(scene):
    memory, rows, s = learnt(scene, Mimic(), 15)
    assert float(memory["direction"][3].abs()) > 0.97
    torch.testing.assert_close(memory["direction"].norm(), torch.tensor(1.0, dtype=torch.float64))
    assert torch.equal(rows, s.honest[5].expand(2, -1))


def test_the_choice_is_held_after_the_warm_up(scene):
    memory, _, _ = learnt(scene, Mimic(warm_up=6), 6)
    honest = unlike(99)
    honest[0] += 100  # now somebody else is the most unlike
    s = scene(honest=honest, k=30, memory=memory)
    assert torch.equal(Mimic(warm_up=6).craft(s)[0], honest[5])
    assert Mimic(warm_up=6).remember(s, s.own).keys() == memory.keys()
    for name, held in Mimic(warm_up=6).remember(s, s.own).items():
        assert torch.equal(held, memory[name])
    fixed_index = Mimic(warm_up=1).craft(scene(honest=honest, k=30))
    assert torch.equal(fixed_index[0], honest[0])  # learnt, not the same index for every data set


def test_absent_clients_keep_their_score(scene):
    memory, _, _ = learnt(scene, Mimic(warm_up=8), 8)
    kept = [0, 1, 2, 3, 4, 7, 9]
    s = scene(honest=unlike(1)[kept], k=30, ids=tuple(kept), memory=memory)
    place = memory["scores"][kept].abs().argmax()
    assert torch.equal(Mimic(warm_up=8).craft(s)[0], s.honest[place])


def test_what_it_learnt_outlives_a_change_of_the_subspace(scene):
    layout = Layout((Slot("w", (1, 40), 0),), (40,))
    along = torch.zeros(40, dtype=torch.float64)
    along[7] = 1.0
    memory, attack = {}, Mimic(warm_up=30)
    for t in range(20):
        subspace = RandomBasis(k=30, refresh=1).plan(layout, t, 0, None)
        honest = subspace.project(
            torch.nn.functional.pad(unlike(t, k=30), (0, 10)) * 0.3
            + torch.tensor([-1.0, 0, 1] * 4, dtype=torch.float64)[:, None] * along * 4
        )
        s = scene(honest=honest, k=30, subspace=subspace, memory=memory)
        memory = attack.remember(s, attack.craft(s))
    assert memory["direction"].shape == (40,)
    assert float(memory["direction"][7].abs()) > 0.9


@pytest.mark.parametrize("seed", range(3))
def test_mimic_hurts_the_median_of_unlike_clients_and_not_that_of_like_ones(scene, seed):
    """The published order: an attack on heterogeneity."""
    rng = np.random.default_rng(seed)
    # each coordinate matters to a few clients only, as classes do
    owners = torch.from_numpy(rng.random((15, 300)) < 0.4).double()
    noise = torch.from_numpy(rng.normal(0, 0.02, (15, 300)))

    def hurt(attack, honest):
        s = scene(honest=honest, f=5, k=300, own=None)
        whole = torch.cat([honest, attack.craft(s)])
        reached, unharmed = (torch.quantile(X, 0.5, dim=0) for X in (whole, honest))
        return float((reached - s.mean).norm() - (unharmed - s.mean).norm())

    different, alike = owners + noise, owners.mean(dim=0) + noise
    assert hurt(Mimic(), different) > 5 * hurt(Mimic(), alike)
    assert hurt(Mimic(), different) > 1.2 * hurt(ALIE(strength="published"), different)


def test_bucketing_heals_the_median_of_unlike_clients(scene):
    """The paper's remedy: the median of means of two, averaged over the draws of the buckets."""
    harm = {}
    for bucketed in (False, True):
        errors = []
        for seed in range(20):
            rng = np.random.default_rng(seed)
            owners = torch.from_numpy(rng.random((15, 300)) < 0.4).double()
            s = scene(honest=owners, f=4, k=300, own=None)
            rule = Bucketing(2, seed=seed) >> Median(4) if bucketed else Median(4)
            stack = torch.cat([owners, Mimic().craft(s)])[torch.from_numpy(rng.permutation(19))]
            errors.append(float((rule(stack) - s.mean).norm()))
        harm[bucketed] = np.mean(errors)
    assert harm[True] < 0.8 * harm[False]


def test_warm_up_must_be_a_number_of_rounds():
    with pytest.raises(ValueError, match="warm_up=0 must be an integer >= 1"):
        Mimic(warm_up=0)
