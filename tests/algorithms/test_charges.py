"""Every client is charged by its own size, in every round."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from fedsieve.algorithms.form import Cohort
from fedsieve.algorithms.parts import StochasticGradient
from fedsieve.learning.data import Dataset, Shards
from fedsieve.learning.flat import FlatModel
from fedsieve.learning.gradients import PerSampleGradients
from fedsieve.learning.losses import squared_error
from fedsieve.privacy import GaussianMechanism
from fedsieve.simulation.job import Job
from fedsieve.simulation.loop import Simulation
from tests.algorithms.trusts import STREAMS, N

SIZES, BATCH = (10, 40, 20), 5


def test_a_smaller_client_is_charged_for_a_larger_sampling_rate() -> None:
    x = torch.zeros(max(SIZES), 2)
    data = Dataset("none", x, x[:, 0], x, x[:, 0], classes=0)
    shards = Shards(data, tuple(np.arange(size) for size in SIZES))
    model = FlatModel(torch.nn.Linear(2, 1), (2,))
    mechanism = GaussianMechanism(1.0, 1.5, BATCH)
    gradient = StochasticGradient(PerSampleGradients(model, squared_error), BATCH, mechanism)
    ids = (0, 1, 2)
    cohort = Cohort(ids, ids, shards, STREAMS, (3, 1, 2), ids)
    rates = [BATCH / size for size in SIZES]
    local = {i: (rates[i], 1.5, steps) for i, steps in zip(ids, cohort.steps, strict=True)}
    assert gradient.releases(cohort, local=True) == local
    assert gradient.releases(cohort, local=False) == {i: (rates[i], 1.5, 1) for i in ids}


def test_every_round_is_charged(job_of: Callable[..., Job]) -> None:
    job = job_of("dshb", "record", "local")
    with Simulation(job) as simulation:
        for done in range(1, 16):
            simulation.step()
            assert job.ledger is not None
            assert job.ledger.spent() == dict.fromkeys(range(N), done)
