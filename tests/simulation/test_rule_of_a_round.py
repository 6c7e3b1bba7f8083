"""What a rule gets anew in every round: its public draws, and the previous aggregate."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from fedsieve.aggregation import NNM, Bucketing, CenteredClipping, GramRule, TrimmedMean
from fedsieve.compression.projections import RandomMask
from fedsieve.simulation.checkpoint import newest, save
from fedsieve.simulation.loop import Simulation


@dataclass(frozen=True)
class Spy(GramRule):
    """The mean, noting what every round offered."""

    seed: int = 0
    v0: Tensor | None = field(default=None, compare=False)
    seen: ClassVar[list[tuple[int, Tensor | None]]] = []

    def breakdown(self, n):
        return n - 1

    def kappa(self, n):
        return None

    def _solve(self, G, removed, share):
        self.seen.append((self.seed, self.v0))
        return np.full(len(G), 1 / len(G))


@pytest.fixture
def seen():
    Spy.seen.clear()
    return Spy.seen


def run(job, rounds=4):
    with Simulation(job) as simulation:
        thetas = []
        for _ in range(rounds):
            simulation.step()
            thetas.append(simulation.theta.clone())
    return thetas


def test_every_round_has_its_own_seed_and_the_previous_aggregate(make_job, seen):
    thetas = run(replace(make_job("dshb"), rule=Spy(0)))
    seeds, centres = zip(*seen, strict=True)
    assert len(set(seeds)) == 4
    assert centres[0] is None
    moved = torch.stack(thetas).diff(dim=0)
    for centre, step in zip(centres[2:], moved, strict=False):
        # theta moves against the aggregate
        assert torch.nn.functional.cosine_similarity(centre, -step, dim=0) > 0.999


def test_a_centre_is_forgotten_with_its_subspace(make_job, seen):
    run(replace(make_job("sieve", projection=RandomMask(k=20, refresh=2)), rule=Spy(0)))
    assert [centre is None for _, centre in seen] == [True, False, True, False]


@pytest.mark.parametrize("algorithm", ["scaffold", "peer-to-peer"])
def test_several_aggregates_a_round_share_no_centre(make_job, seen, algorithm):
    run(replace(make_job(algorithm), rule=Spy(0)), rounds=2)
    assert all(centre is None for _, centre in seen)


@pytest.mark.parametrize(
    "rule",
    [
        CenteredClipping(1, tau=0.01, iterations=1),
        NNM(1) >> CenteredClipping(1, tau=0.01, iterations=1),
        Bucketing(2) >> TrimmedMean(1),
    ],
    ids=str,
)
def test_a_restored_simulation_goes_on_alike(make_job, tmp_path, rule):
    job = replace(make_job("dshb"), rule=rule)
    whole = run(job)
    with Simulation(job) as first:
        first.step()
        first.step()
        save(tmp_path, first.checkpoint())
    with Simulation(job) as second:
        second.restore(newest(tmp_path))
        second.step()
        second.step()
        assert torch.equal(second.theta, whole[-1])
