"""A seeded run draws anew in every round and step: noise, shared noise, counts and batches.

With the operating system's entropy nothing can return (`tests/simulation/test_noise_source.py`);
with a noise seed everything hangs on the labels of the streams.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fedsieve.algorithms.form import Cohort
from fedsieve.algorithms.parts import StochasticGradient
from fedsieve.learning.data import Dataset, Shards
from fedsieve.learning.flat import FlatModel
from fedsieve.learning.gradients import PerSampleGradients
from fedsieve.learning.losses import squared_error
from fedsieve.privacy import AdaptiveClip, CorrelatedGaussian, GaussianMechanism
from tests.algorithms.trusts import STREAMS, N

K, RECORDS = 400, 40
NEAR = 0.3  # cosine; of independent noise one in 10^9 is nearer
PLACES = list(itertools.product(range(3), range(2)))  # rounds and steps


def cohort_of(n: int) -> Cohort:
    x = torch.zeros(RECORDS, 2)
    data = Dataset("none", x, x[:, 0], x, x[:, 0], classes=0)
    shards = Shards(data, (np.arange(RECORDS),) * n)
    ids = tuple(range(n))
    return Cohort(ids, ids, shards, STREAMS, (1,) * n, ids)


def require_apart(drawn: Sequence[Tensor]) -> None:
    """No two of the vectors point the same way, or the contrary one."""
    rows = torch.nn.functional.normalize(torch.stack(list(drawn)).double(), dim=1)
    near = (rows @ rows.T).abs().fill_diagonal_(0.0)
    assert near.max() < NEAR


def test_own_and_shared_noise_are_other_ones_in_every_round_and_step(
    noise_of: Callable[..., Any], mechanism_of: Callable[..., GaussianMechanism]
) -> None:
    for trust in ("local", "distributed"):
        mechanism = mechanism_of("record")
        noise = noise_of(trust, mechanism)
        zeros = torch.zeros(N, K)
        sent = [noise.at_client(mechanism, zeros, cohort_of(N), t, s).messages for t, s in PLACES]
        require_apart([messages[0] for messages in sent])


def test_shared_noise_alone_is_another_one_in_every_round_and_step(
    noise_of: Callable[..., Any], mechanism_of: Callable[..., GaussianMechanism]
) -> None:
    """Without the client's own part, which would hide its return."""
    noise = noise_of("distributed", mechanism_of("record"))
    bare = CorrelatedGaussian(1.0, independent=1e-6, correlated=1.0, batch=8)
    noise = replace(noise, correlated=bare)
    zeros = torch.zeros(N, K)
    sent = [noise.at_client(None, zeros, cohort_of(N), t, s).messages for t, s in PLACES]
    require_apart([messages[0] for messages in sent])


def test_the_servers_noise_is_another_one_in_every_round(
    noise_of: Callable[..., Any], mechanism_of: Callable[..., GaussianMechanism]
) -> None:
    mechanism = mechanism_of("record")
    noise, zeros = noise_of("central", mechanism), torch.zeros(N, K)
    require_apart([noise.at_server(mechanism, zeros, t, lambda m: m.mean(0)) for t in range(4)])


@pytest.fixture
def gradient() -> StochasticGradient:
    model = FlatModel(torch.nn.Linear(2, 1, bias=False), (2,))
    return StochasticGradient(
        PerSampleGradients(model, squared_error),
        RECORDS // 2,
        GaussianMechanism(1.0, 1.0, RECORDS // 2),
        adaptive=AdaptiveClip(noise_std=3.0),
    )


def test_batches_are_other_ones_in_every_round_and_step(gradient: StochasticGradient) -> None:
    clients = cohort_of(40)
    marks = torch.arange(RECORDS, dtype=torch.float32)
    clients.shards.dataset.y.copy_(marks)
    drawn = []
    for t, s in PLACES:
        batch = gradient.draw(clients, t, s)
        joined = [torch.isin(marks, own).float() for own in batch.y.split(list(batch.counts))]
        drawn.append(torch.cat(joined) - 0.5)
    require_apart(drawn)


def test_counts_have_another_noise_in_every_round_and_step(gradient: StochasticGradient) -> None:
    clients = cohort_of(300)
    theta = gradient.gradients.model.read()
    mechanism, drawn = gradient.mechanism, []
    for t, s in PLACES:
        empty = clients.shards.gather(np.array([], dtype=np.int64), (0,) * 300)
        sent = gradient._sent(mechanism, theta, empty, None, clients, t, s)  # type: ignore[arg-type]
        assert sent.shares is not None
        drawn.append(sent.shares - 0.5)
    require_apart(drawn)
