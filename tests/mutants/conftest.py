"""The court in which the library, and broken variants of it, are tried.

The distinguishing game, played against real runs: `Simulation.step` computes what thousands of
clients send, half of which hold a canary, a record whose gradient is ten times the clip, where the
others hold an empty place. (Where clients share noise, or the server adds it, a round is a trial.)
The canary's gradient is orthogonal to all others in R^k, except where a fault shows only between
parallel ones. An attacker gives every trial a score. On a third of the trials a threshold is
chosen; on the rest the two rates of error get Clopper-Pearson bounds, and

    epsilon >= log((TPR_low - delta) / FPR_high).

The bound holds but for `FALSE_ALARM`: where it exceeds the claim, so does the usual one of 95 %.
The tests acquit the library 24 times, most of them with much room, so that all together accuse a
faultless one with a probability below 1 in 1000, whatever the seeds; and the seeds are fixed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import beta
from torch import Tensor, nn

from fedsieve.aggregation import Mean
from fedsieve.algorithms.form import Broadcast, Cohort, Sent
from fedsieve.algorithms.parts import Parts, Planner, Projection, StochasticGradient
from fedsieve.algorithms.trust import Mechanism, Noise, OwnNoise
from fedsieve.compression.projections import Identity
from fedsieve.learning.data import Dataset, Shards
from fedsieve.learning.flat import FlatModel
from fedsieve.learning.gradients import PerSampleGradients
from fedsieve.learning.losses import evaluate, squared_error
from fedsieve.privacy import (
    AdaptiveClip,
    GaussianMechanism,
    IntegerMechanism,
    Relation,
    epsilon,
)
from fedsieve.privacy.guarantee import kept_variance
from fedsieve.randomness import Streams
from fedsieve.registry import component
from fedsieve.simulation.executors import WholeCohort
from fedsieve.simulation.job import Job
from fedsieve.simulation.loop import Simulation
from fedsieve.simulation.participation import Participation
from tests.mutants.trials import K

Array = NDArray[np.float64]

FALSE_ALARM = 4e-5
"""Of one verdict."""
PLACES = 8  # records that a client holds, or places for such
CANARY, EMPTY = 0, 1  # positions of two records in the data set
SIGMA, CLIP, BATCH, DELTA = 1.0, 1.0, 4.0, 0.05  # delta is large, so that few trials can tell
WITH, WITHOUT = (CANARY, *range(2, PLACES + 1)), (EMPTY, *range(2, PLACES + 1))


@dataclass(frozen=True)
class Court:
    """Makes runs, hears what they send, and gives the bound.

    Args:
        choosing: Trials of each world on which the threshold is chosen.
        deciding: Trials of each world on which it is judged.
    """

    choosing: int = 1000
    deciding: int = 2000

    @property
    def trials(self) -> int:
        """Of each world."""
        return self.choosing + self.deciding

    def records(self, others: str = "orthogonal") -> Dataset:
        """The canary, an empty place and the other records: gradients of norm 10 C, or none.

        "orthogonal" to the canary's and each other's, "opposed" to the canary's (which is then
        longer than all of them together), or "none".
        """
        x = torch.zeros(PLACES + 1, K)
        x[CANARY, 0] = CLIP
        if others == "orthogonal":
            x[2:, 1:] = CLIP * torch.eye(K - 1)
        y = torch.full((len(x),), -10.0)
        if others == "opposed":
            x[2:, 0], y[CANARY] = -CLIP, -1000.0
        return Dataset("court", x, y, x, y, classes=0)

    def job(
        self,
        parts: Sequence[Sequence[int]] | None = None,
        *,
        algorithm: str = "dshb",
        mechanism: Mechanism | None = None,
        noise: Noise | None = None,
        adaptive: AdaptiveClip | None = None,
        projection: Projection | None = None,
        module: nn.Module | None = None,
        data: Dataset | None = None,
        options: dict[str, Any] | None = None,
        seed: int = 1,
        **more: Any,
    ) -> Job:
        """A federation whose client i holds the records ``parts[i]``.

        By default the first half of the clients is the world with the canary.
        """
        data = data or self.records()
        parts = parts or (WITH,) * self.trials + (WITHOUT,) * self.trials
        mechanism = mechanism or GaussianMechanism(CLIP, SIGMA, BATCH)
        if module is None:
            module = nn.Linear(K, 1, bias=False)
            nn.init.zeros_(module.weight)
        model = FlatModel(module, (K,))
        gradient = StochasticGradient(
            PerSampleGradients(model, squared_error),
            int(mechanism.batch),
            mechanism,
            noise or OwnNoise(),
            adaptive,
        )
        built = Parts(gradient, Planner(projection or Identity(), model.layout, 3), len(parts))
        settings = {"lr": 1e-6, "momentum": 0.0} | (options or {})
        return Job(
            algorithm=component("algorithm", algorithm).build(parts=built, **settings),
            theta=model.read(),
            shards=Shards(data, tuple(np.array(part) for part in parts)),
            evaluate=partial(evaluate, model, x=data.x_test, y=data.y_test, loss=squared_error),
            streams=Streams(0, noise_seed=seed),
            rule=Mean(),
            participation=Participation(len(parts), len(parts)),
            codec=component("codec", "raw32").build(),
            rounds=10**6,
            evaluate_every=10**6,
            **more,
        )

    def heard(self, job: Job, rounds: int = 2) -> list[Sent]:
        """What leaves the clients of a run in each of its rounds."""
        with _Overheard(job) as simulation:
            for _ in range(rounds):
                simulation.step()
        return simulation.heard

    def messages(self, job: Job, rounds: int = 2) -> Tensor:
        """The messages (rounds, clients, k) in units of the clip, the batch size undone."""
        unit = _mechanism(job).clip / _mechanism(job).batch
        return torch.stack([s.messages for s in self.heard(job, rounds)]).double() / unit

    def models(self, job: Job, rounds: int) -> Tensor:
        """The models (rounds + 1, d) before and after each round of a run."""
        with Simulation(job) as simulation:
            found = [simulation.theta.clone()]
            for _ in range(rounds):
                simulation.step()
                found.append(simulation.theta.clone())
        return torch.stack(found).double()

    def claim(
        self,
        job: Job,
        releases: int = 2,
        relation: Relation = "zero-out",
        absent: tuple[int, ...] = (),
    ) -> float:
        """The epsilon that a client of this run would be told after so many rounds."""
        mechanism = _mechanism(job)
        n = len(job.shards.parts)
        cohort = Cohort(
            tuple(range(n)),
            tuple(range(n)),
            job.shards,
            job.streams,
            (job.steps,) * n,
            tuple(range(n)),
            absent,
        )
        q, sigma, steps = job.algorithm.releases(cohort)[0]
        law = mechanism.law if isinstance(mechanism, IntegerMechanism) else "gaussian"
        told = (sigma, q, steps * releases, DELTA, relation, mechanism.unit, law)
        return epsilon(*told, kept_variance(law)).epsilon

    def bound(self, scores: Array | Tensor) -> float:
        """From below, the epsilon that scores show: the first half of them with the canary."""
        there, gone = np.split(np.asarray(scores, dtype=np.float64), 2)
        c = self.choosing
        found = [
            (_bound(sign * one[:c], sign * two[:c], sign * t, 0.01), sign, t, one, two)
            for one, two in ((there, gone), (gone, there))
            for sign in (1, -1)
            for t in np.unique(np.quantile(np.concatenate([one[:c], two[:c]]), QUANTILES))
        ]
        _, sign, t, one, two = max(found, key=lambda f: f[0])
        return _bound(sign * one[c:], sign * two[c:], sign * t, FALSE_ALARM / 2)


QUANTILES = np.linspace(0.01, 0.99, 99)


def _mechanism(job: Job) -> Mechanism:
    found: Mechanism = job.algorithm.parts.gradient.mechanism  # type: ignore[attr-defined]
    return found


def _bound(hits: Array, alarms: Array, threshold: float, error: float) -> float:
    n, m = len(hits), len(alarms)
    a, b = int((hits > threshold).sum()), int((alarms > threshold).sum())
    power = beta.ppf(error, a, n - a + 1) if a else 0.0
    level = beta.ppf(1 - error, b + 1, m - b) if b < m else 1.0
    return math.log(max(power - DELTA, 1e-12) / level)


class _Overheard(Simulation):
    """A simulation that notes what leaves its clients."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.heard: list[Sent] = []

    def _start(self, broadcast: Broadcast) -> WholeCohort:
        """One stack of all clients: a client rule is written once, for any number of them."""
        return WholeCohort(self.job.algorithm)

    def _compute(self, broadcast: Broadcast, cohort: Cohort) -> Sent:
        sent = super()._compute(broadcast, cohort)
        self.heard.append(replace(sent, messages=sent.messages.clone()))
        return sent


@pytest.fixture
def court() -> Court:
    """For faults that show in the messages of single clients."""
    return Court()


@pytest.fixture
def slow_court() -> Court:
    """Where a trial is a round of its own, or a client with a model of its own."""
    return Court(300, 900)


@pytest.fixture
def small_court() -> Court:
    """Where a trial is a run of its own."""
    return Court(100, 300)


@pytest.fixture
def large_court() -> Court:
    """Where every number of a long vector is a trial."""
    return Court(5000, 50_000)
