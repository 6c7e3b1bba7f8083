"""Algorithms that take noisy local steps: every step is paid for, and nothing else is released.

DP-SCAFFOLD (Noble, Bellet, Dieuleveut, AISTATS 2022) is the ``scaffold`` algorithm with a privacy
mechanism: both halves of its message are made of the K noisy gradients alone. The same holds for
``fedavg`` and for ``peer-to-peer``, whose nodes send models.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import beta
from torch import Tensor, nn

from fedsieve.algorithms.form import Algorithm, Cohort, Info, Releases
from fedsieve.algorithms.parts import Parts, Planner, StochasticGradient
from fedsieve.algorithms.trust import Mechanism, OwnNoise
from fedsieve.compression.projections import Identity
from fedsieve.learning.data import Batch, Dataset, Shards
from fedsieve.learning.flat import FlatModel
from fedsieve.learning.gradients import PerSampleGradients
from fedsieve.learning.losses import squared_error
from fedsieve.privacy import (
    DPScaffold,
    GaussianMechanism,
    Ledger,
    PeerNoise,
    Released,
    epsilon,
    split_budget,
)
from fedsieve.randomness import Streams
from fedsieve.registry import component
from fedsieve.simulation.job import Job
from fedsieve.simulation.loop import Simulation

K, ROUNDS = 3, 4
NOISE = GaussianMechanism(clip=1.0, noise_multiplier=2.0, batch=8)
LOCAL = ["scaffold", "fedavg", "peer-to-peer"]


@pytest.fixture
def job_of(make_job: Callable[..., Job]) -> Callable[..., Job]:
    """Six clients, four of whom take part in each round, and a ledger."""

    def make(name: str, **given: Any) -> Job:
        setting = {
            "mechanism": NOISE,
            "steps": K,
            "rounds": ROUNDS,
            "participation": {"size": 4},
            "ledger": Ledger(1e-5, "replace-one", repeatable=True),
        }
        return make_job(name, **(setting | given))

    return make


def run(job: Job) -> Simulation:
    simulation = Simulation(job)
    for _ in range(job.rounds):
        simulation.step()
    return simulation


# ----------------------------------------------------------------------------------- every step


def unpaid(job: Job, monkeypatch: pytest.MonkeyPatch) -> dict[int | str, int]:
    """Client -> noisy gradients it computed in the run, less those that the ledger charged."""
    noised: Counter[int | str] = Counter()
    original = OwnNoise.at_client

    def counted(
        self: OwnNoise, mechanism: Mechanism, vectors: Tensor, cohort: Cohort, *labels: int
    ) -> Released:
        noised.update(cohort.ids)
        return original(self, mechanism, vectors, cohort, *labels)

    monkeypatch.setattr(OwnNoise, "at_client", counted)
    run(job)
    assert job.ledger is not None
    assert noised
    noised.subtract(job.ledger.spent())
    return {client: steps for client, steps in noised.items() if steps}


@pytest.mark.parametrize("name", LOCAL)
def test_every_noisy_gradient_is_paid_for(
    name: str, job_of: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert unpaid(job_of(name), monkeypatch) == {}


@pytest.mark.parametrize("forgotten", [1, K - 1])
@pytest.mark.parametrize("name", LOCAL)
def test_a_forgotten_step_is_noticed(
    name: str, forgotten: int, job_of: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = StochasticGradient.releases

    def forgetful(self: StochasticGradient, cohort: Cohort, *, local: bool) -> Releases:
        charged = original(self, cohort, local=local)
        return {c: (q, sigma, steps - forgotten) for c, (q, sigma, steps) in charged.items()}

    monkeypatch.setattr(StochasticGradient, "releases", forgetful)
    job = job_of(name)
    missing = unpaid(job, monkeypatch)
    assert set(missing) == set(range(6))
    assert sum(missing.values()) == forgotten * 4 * ROUNDS


def test_a_private_scaffold_learns_and_costs_what_the_paper_composes(
    job_of: Callable[..., Job],
) -> None:
    mechanism = GaussianMechanism(clip=1.0, noise_multiplier=1.0, batch=10)
    job = job_of("scaffold", mechanism=mechanism, rounds=25)
    simulation = Simulation(job)
    rows = [simulation.step() for _ in range(job.rounds)]
    assert rows[-1]["accuracy"] > 0.9
    assert job.ledger is not None
    spent = job.ledger.guarantee()
    most = max(job.ledger.spent().values())  # what counts is the client who took part most
    paper = DPScaffold(
        1.0, 0.5, data_rate=0.5, user_rate=4 / 6, local_steps=K, rounds=25, users=6, records=20
    )
    assert most % K == 0
    assert paper.mechanism == mechanism
    assert paper.guarantee(1e-5, most // K).epsilon == spent.epsilon == rows[-1]["epsilon"]
    assert spent.steps == most < 25 * K


def test_peers_that_use_all_their_records_are_gaussian_wake_ups(
    job_of: Callable[..., Job],
) -> None:
    """Bellet, Guerraoui, Taziki, Tommasi, AISTATS 2018: one full gradient at every wake-up."""
    plan = PeerNoise(1.0, 20, split_budget(6.0, ROUNDS), "gaussian", delta=1e-6)
    mechanism = GaussianMechanism(1.0, plan.noise_std(0) * 20, batch=20)
    job = job_of("peer-to-peer", mechanism=mechanism, steps=1, batch=20)
    run(job)
    assert job.ledger is not None
    wake_ups = job.ledger.spent()  # every node counts its own
    assert len(set(wake_ups.values())) > 1
    most = max(wake_ups.values())
    assert job.ledger.guarantee().epsilon == pytest.approx(plan.spent(most, 1e-5), rel=1e-9)


# -------------------------------------------------------------------------- and nothing besides


def needs_no_more_records(
    name: str, job_of: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> bool:
    """Whether clients with other records send the same bits, the noisy gradients being the same."""
    tape: list[Released] = []
    original = OwnNoise.at_client

    def recording(self: OwnNoise, *given: Any) -> Released:
        tape.append(original(self, *given))
        return tape[-1]

    def replaying(self: OwnNoise, *given: Any) -> Released:
        return tape.pop(0)

    monkeypatch.setattr(OwnNoise, "at_client", recording)
    first = run(job_of(name))
    monkeypatch.setattr(OwnNoise, "at_client", replaying)
    job = job_of(name)
    data = job.shards.dataset
    other = replace(data, x=-3 * data.x, y=1 - data.y)
    again = run(replace(job, shards=Shards(other, job.shards.parts)))
    assert not tape
    states = [{**one.shared, **one.memory} for one in (first, again)]
    return all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize("name", LOCAL)
def test_messages_are_made_of_the_noisy_gradients_alone(
    name: str, job_of: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert needs_no_more_records(name, job_of, monkeypatch)


@pytest.mark.parametrize("name", LOCAL)
def test_a_gradient_that_leaves_without_noise_is_noticed(
    name: str, job_of: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = StochasticGradient.__call__

    def leaking(
        self: StochasticGradient, theta: Tensor, batch: Batch, *rest: Any
    ) -> tuple[Tensor, Info]:
        sent, info = original(self, theta, batch, *rest)
        return sent + 1e-3 * batch.x.sum(), info

    monkeypatch.setattr(StochasticGradient, "__call__", leaking)
    assert not needs_no_more_records(name, job_of, monkeypatch)


def test_the_variate_is_the_mean_of_the_noisy_gradients(
    job_of: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Option II of the algorithm, c_i - c + (x - y) / (K eta_l), is nothing else."""
    released: dict[int | str, list[Tensor]] = {}
    original = OwnNoise.at_client

    def recording(
        self: OwnNoise, mechanism: Mechanism, vectors: Tensor, cohort: Cohort, *labels: int
    ) -> Released:
        sent = original(self, mechanism, vectors, cohort, *labels)
        released.setdefault(cohort.ids[0], []).append(sent.messages[0])
        return sent

    monkeypatch.setattr(OwnNoise, "at_client", recording)
    variates = run(job_of("scaffold")).memory["variates"]
    assert len(released) == 6
    for client, gradients in released.items():
        latest = torch.stack(gradients[-K:]).mean(0)
        assert torch.allclose(variates[int(client)], latest, rtol=1e-5, atol=1e-6)


# -------------------------------------------------------------------------------------- an audit

TRIALS, RECORDS, SIGMA, DELTA, THRESHOLD = 4000, 2, 1.0, 0.01, 3.6


def variates_of_a_canary(*, present: bool, steps: int) -> np.ndarray:
    """The canary's coordinate of (1/K) sum_k H_k as DP-SCAFFOLD sends it, over C / (s R), times K.

    Every trial is a client of one round with s = 1. Its canary has a gradient of far more than C;
    in the other world a record without gradient stands in its place.
    """
    x = torch.eye(RECORDS)
    y = torch.zeros(RECORDS)
    y[0] = -10.0 if present else 0.0
    data = Dataset("canary", x, y, x, y, classes=0)
    module = nn.Linear(RECORDS, 1, bias=False)
    nn.init.zeros_(module.weight)
    model = FlatModel(module, (RECORDS,))
    gradient = StochasticGradient(
        PerSampleGradients(model, squared_error),
        RECORDS,
        GaussianMechanism(1.0, SIGMA, RECORDS),
    )
    parts = Parts(gradient, Planner(Identity(), model.layout, seed=0), n=TRIALS)
    algorithm: Algorithm = component("algorithm", "scaffold").build(parts=parts, lr=1e-3)
    shared, memory = algorithm.start(model.read())
    ids = tuple(range(TRIALS))
    cohort = Cohort(
        ids,
        ids,
        Shards(data, (np.arange(RECORDS),) * TRIALS),
        Streams(0, noise_seed=1 + present),
        steps=(steps,) * TRIALS,
    )
    sent = algorithm.client(algorithm.broadcast(shared, 0), memory, cohort).messages
    _, delta_c = sent.chunk(2, dim=1)
    return (delta_c[:, 0] * RECORDS * steps).numpy()


def test_an_audit_finds_that_one_step_of_two_was_not_charged() -> None:
    scores = [variates_of_a_canary(present=present, steps=2) for present in (True, False)]
    hits, alarms = (int((score > THRESHOLD).sum()) for score in scores)
    power = beta.ppf(0.025, hits, TRIALS - hits + 1)
    level = beta.ppf(0.975, alarms + 1, TRIALS - alarms)
    from_below = math.log((power - DELTA) / level)
    claims = [epsilon(SIGMA, 1.0, steps, DELTA, "zero-out").epsilon for steps in (1, 2)]
    assert claims[0] < from_below < claims[1]
