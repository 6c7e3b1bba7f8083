"""What all tests share: quiet, repeatable, one thread."""

from __future__ import annotations

import os

# Before torch is imported: OpenMP threads of several test processes would fight for the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

from fedsieve.aggregation import Mean, Rule
from fedsieve.algorithms.parts import Parts, Planner, Projection, StochasticGradient
from fedsieve.algorithms.trust import Noise, OwnNoise
from fedsieve.compression.projections import Identity
from fedsieve.learning.data import Dataset, Shards
from fedsieve.learning.flat import FlatModel
from fedsieve.learning.gradients import PerSampleGradients
from fedsieve.learning.losses import cross_entropy, evaluate
from fedsieve.privacy import GaussianMechanism
from fedsieve.randomness import Streams
from fedsieve.registry import component
from fedsieve.simulation.job import Job
from fedsieve.simulation.participation import Participation

# A test that passes or fails by the load of the machine says nothing about the code.
settings.register_profile(
    "fedsieve", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("fedsieve")


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return Path(__file__).parent.parent


@pytest.fixture
def make_job() -> Callable[..., Job]:
    """Makes a small federation: 6 clients with 20 records of two classes each, a 4-5-2 network."""
    return _job


def _job(
    algorithm: str = "dshb",
    *,
    clients: int = 6,
    rounds: int = 5,
    batch: int = 8,
    mechanism: GaussianMechanism | None = None,
    noise: Noise | None = None,
    projection: Projection | None = None,
    rule: Rule | None = None,
    noise_seed: int | None = 1,
    participation: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
    **job: Any,
) -> Job:
    rng = np.random.default_rng(0)
    y = torch.from_numpy(rng.integers(0, 2, 20 * clients + 40))
    x = torch.from_numpy(rng.normal(size=(len(y), 4)).astype(np.float32)) + 2.0 * y[:, None]
    train, test = slice(0, 20 * clients), slice(20 * clients, None)
    data = Dataset("blobs", x[train], y[train], x[test], y[test], classes=2)
    module = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2))
    with torch.no_grad():
        for parameter in module.parameters():
            values = rng.normal(size=tuple(parameter.shape)) / 2
            parameter.copy_(torch.from_numpy(values))
    model = FlatModel(module, (4,))
    parts = Parts(
        StochasticGradient(
            PerSampleGradients(model, cross_entropy), batch, mechanism, noise or OwnNoise()
        ),
        Planner(projection or Identity(), model.layout, seed=3),
        n=clients,
    )
    settings = {"lr": 0.2, "records": 20} | (options or {})
    return Job(
        algorithm=component("algorithm", algorithm).build(parts=parts, **settings),
        theta=model.read(),
        shards=Shards(data, tuple(np.arange(20 * c, 20 * c + 20) for c in range(clients))),
        evaluate=partial(evaluate, model, x=data.x_test, y=data.y_test, loss=cross_entropy),
        streams=Streams(5, noise_seed),
        rule=rule or Mean(),
        participation=Participation(clients, **({"size": clients} | (participation or {}))),
        codec=component("codec", "raw32").build(),
        rounds=rounds,
        **job,
    )
