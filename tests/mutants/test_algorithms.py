"""The trial of what algorithms add to the mechanism: variates, own models, drop-outs, wake-ups.

SCAFFOLD sends its control variates, and a node of peer-to-peer learning goes on from the model that
it sent: both are free only if they are made of noised gradients. Clients who share noise reveal
what they shared with those who drop out, and nothing else. A peer's noise is made for one norm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fedsieve.algorithms import peer_to_peer, scaffold
from fedsieve.algorithms.form import Cohort
from fedsieve.algorithms.trust import SharedNoise
from fedsieve.privacy import CorrelatedGaussian, GaussianMechanism, PeerNoise, Released
from fedsieve.randomness import Streams
from fedsieve.simulation.participation import Participation
from tests.mutants.trials import ONE, Case, K, Patch, Verdict, each

LR, DELTA = 1e-3, 0.05


def raw_gradients(patch: Patch) -> list[Tensor]:
    """The clipped gradients (m, k) of all steps so far, before any noise."""
    release, heard = GaussianMechanism.release, []

    def overheard(self: GaussianMechanism, sums: Tensor, generators: Any) -> Released:
        heard.append(sums / self.batch)
        return release(self, sums, generators)

    patch.setattr(GaussianMechanism, "release", overheard)
    return heard


# ------------------------------------------------------------------------------------ SCAFFOLD


def variates(court: Any) -> Verdict:
    """What the sent differences of variates add up to: the gradients of all rounds."""
    job = court.job(algorithm="scaffold", options={"lr": LR, "server_lr": LR})
    told = court.messages(job)[..., K].cumsum(dim=0)
    return court.bound(told.sum(dim=0)), court.claim(job)


def variate_of_raw_gradients(patch: Patch) -> None:
    """The model moves along noised gradients, the control variate is the mean of raw ones."""
    local_steps, raw = scaffold.local_steps, raw_gradients(patch)

    def replaced(*given: Any) -> Any:
        y, _, info = local_steps(*given)
        return y, raw[-1], info

    patch.setattr(scaffold, "local_steps", replaced)


# -------------------------------------------------------------------------------- peer to peer


def differences(court: Any) -> Verdict:
    """Of a node that noises what it sends and not its model: every model holds all gradients."""
    job = court.job(algorithm="peer-to-peer", options={"lr": LR, "mixing": 1e-9, "graph": "ring"})
    models = court.messages(job, 3)[..., 0] / LR
    weights = torch.tensor([[1.0], [2.0], [3.0]], dtype=models.dtype)
    return court.bound((weights * models).sum(dim=0)), court.claim(job, 3)


def noise_on_the_sent_model_alone(patch: Patch) -> None:
    local_steps, raw = peer_to_peer.local_steps, raw_gradients(patch)

    def replaced(gradient: Any, start: Tensor, *rest: Any) -> Any:
        y, mean, info = local_steps(gradient, start, *rest)
        noise = (start - y) / LR - raw[-1]
        return -LR * (sum(raw) + noise), mean, info

    patch.setattr(peer_to_peer, "local_steps", replaced)


# -------------------------------------------------------------------- shared noise and drop-outs

Attack = Callable[[Tensor, Tensor, CorrelatedGaussian], Tensor]
"""Scores from the messages, what somebody knows to be in them, and the law of the rest."""


def shared(n: int, attack: Attack, absent: tuple[int, ...] = (), *, public: bool = False) -> Any:
    """The server and a colluder, the last of n clients; with absent ones, who drop out.

    With ``public``, somebody who knows the experiment's seed, and takes it for that of the pairs.

    Noise is independent from number to number, so each number of a long vector is a trial of its
    own: client 0 holds the clip there, or nothing.
    """
    noise = SharedNoise(CorrelatedGaussian.calibrated(1.0, 1, 1.0, n, 1), 1)
    present = tuple(i for i in range(n) if i not in absent)

    def verdict(court: Any) -> Verdict:
        job = court.job([(0,)] * n, mechanism=ONE, noise=noise)
        steps, peers, trials = (1,) * len(present), tuple(range(n)), 2 * court.trials
        cohort = Cohort(present, present, job.shards, job.streams, steps, peers, absent)
        vectors = torch.zeros(len(present), trials)
        vectors[0, : court.trials] = ONE.clip
        sent = noise.at_client(ONE, vectors, cohort, 0).messages.double()
        told = Streams(0, noise_seed=0) if public else job.streams
        others = present[1:] if public else present[-1:]
        known = np.zeros((len(present), trials))
        for row, i in enumerate(present):
            for j in set(others) - {i}:
                v = told.pair(i, j, 0, 0).standard_normal(trials)
                known[row] += noise.correlated.correlated * (v if i < j else -v)
        scores = attack(sent, torch.from_numpy(known), noise.correlated)
        return court.bound(scores), court.claim(job, 1, absent=absent)

    return verdict


def best_of_the_honest(sent: Tensor, known: Tensor, noise: CorrelatedGaussian) -> Tensor:
    """Less what the colluder knows; what two honest clients share is seen twice."""
    h = len(known) - 1
    s, c = noise.independent**2, noise.correlated**2
    covariance = s * np.eye(h) + c * (h * np.eye(h) - np.ones((h, h)))
    return torch.from_numpy(np.linalg.inv(covariance)[0]) @ (sent - known)[:h]


def alone(sent: Tensor, known: Tensor, noise: CorrelatedGaussian) -> Tensor:
    """The message of client 0 as it is."""
    return sent[0]


def alone_less_the_known(sent: Tensor, known: Tensor, noise: CorrelatedGaussian) -> Tensor:
    """The message of client 0, without what is known to be in it."""
    return (sent - known)[0]


def own_part_too_small(patch: Patch) -> None:
    release = CorrelatedGaussian.release

    def weak(self: CorrelatedGaussian, *given: Any) -> Any:
        return release(replace(self, independent=self.independent / 3), *given)

    patch.setattr(CorrelatedGaussian, "release", weak)


def pairs_share_the_public_seed(patch: Patch) -> None:
    def pair(self: Streams, one: int, other: int, *labels: int) -> np.random.Generator:
        known = Streams(0, noise_seed=self.seed)
        return original(known, one, other, *labels)

    original = Streams.pair
    patch.setattr(Streams, "pair", pair)


def repair_of_all(patch: Patch) -> None:
    """The present clients reveal what they share with everybody, not with the absent alone."""
    shared_with = CorrelatedGaussian._shared

    def revealed(
        self: CorrelatedGaussian, messages: Tensor, absent: Any, pair: Any, clients: Any
    ) -> Tensor:
        everybody = {*absent, *clients}
        noise = shared_with(self, messages.shape[1], pair, clients, everybody)
        return (messages.double() - torch.from_numpy(noise) * self.clip / self.batch).to(messages)

    patch.setattr(CorrelatedGaussian, "repair", revealed)


def absent_count_as_honest(patch: Patch) -> None:
    """The account goes on as if nobody had dropped out."""

    def whole(self: SharedNoise, mechanism: Any, cohort: Cohort) -> float:
        return self.correlated.noise_multiplier(len(cohort.peers), self.colluders)

    patch.setattr(SharedNoise, "multiplier", whole)


def test_a_run_sends_the_very_messages_that_are_tried(court: Any, monkeypatch: Patch) -> None:
    """Between the noise and the server nothing is added, with absent clients or without."""
    noise = SharedNoise(CorrelatedGaussian.calibrated(1.0, 4, 1.0, 6, 1), 1)
    tried: list[tuple[Cohort, Tensor, Tensor]] = []
    at_client = SharedNoise.at_client

    def heard(self: Any, mechanism: Any, vectors: Tensor, cohort: Cohort, *at: int) -> Any:
        released = at_client(self, mechanism, vectors, cohort, *at)
        tried.append((cohort, vectors, released.messages))
        return released

    monkeypatch.setattr(SharedNoise, "at_client", heard)
    job = court.job([range(9)] * 6, noise=noise)
    job = replace(job, participation=Participation(6, 6, dropout=0.3))
    sent = court.heard(job, 5)
    assert {len(cohort.absent) > 0 for cohort, _, _ in tried} == {True, False}
    for (cohort, vectors, messages), one in zip(tried, sent, strict=True):
        assert torch.equal(messages, one.messages)
        assert {*cohort.ids, *cohort.absent} == {*cohort.peers} == {*range(6)}
        assert len(vectors) == len(cohort.ids)


# ---------------------------------------------------------------------------- noise of wake-ups

WAKE_UPS, RECORDS = 2, 4


def wake_ups(law: str, spread: int) -> Any:
    """One record of a node's against its opposite, its gradient spread over so many numbers."""

    def verdict(court: Any) -> Verdict:
        delta = 0.01 if law == "gaussian" else 0.0
        node = PeerNoise(1.0, RECORDS, (1.0,) * WAKE_UPS, law, delta)  # type: ignore[arg-type]
        gradients = torch.zeros(2, RECORDS, K)
        gradients[0, 0, :spread], gradients[1, 0, :spread] = 9.0, -9.0
        scores = []
        for world in (0, 1):
            generator = np.random.default_rng([11, world])
            for _ in range(court.trials):
                sent = [node.release(gradients[world], t, generator) for t in range(WAKE_UPS)]
                scores.append(torch.stack(sent))
        sent = torch.stack(scores)[..., :spread] * RECORDS  # each number moves by -1 or 1, or so
        if law == "laplace":
            sent = (sent * spread + 1).abs() - (sent * spread - 1).abs()
        return court.bound(sent.sum(dim=(1, 2))), node.spent(WAKE_UPS, DELTA)

    return verdict


def clip_number_by_number(patch: Patch) -> None:
    """Every number within C: an l1 norm of up to k C, which the noise is not made for."""

    def clamped(self: PeerNoise, gradients: Tensor) -> Tensor:
        return gradients.double().clamp(-self.clip, self.clip).sum(0)

    patch.setattr(PeerNoise, "clipped_sum", clamped)


def noise_for_a_record_that_is_left_out(patch: Patch) -> None:
    """Replacing a record moves the sum twice as far."""
    gaussian = PeerNoise._gaussian

    def half(self: PeerNoise, wake_up: int) -> GaussianMechanism:
        made = gaussian(self, wake_up)
        return replace(made, noise_multiplier=made.noise_multiplier / 2)

    patch.setattr(PeerNoise, "_gaussian", half)


# ------------------------------------------------------------------------------------- verdicts


CASES = [
    Case("scaffold", variates, variate_of_raw_gradients, "slow_court"),
    Case("peers", differences, noise_on_the_sent_model_alone, "slow_court", 0.1),
    Case("distributed", shared(4, best_of_the_honest), own_part_too_small, "large_court", 0.7),
    Case("pairs", shared(4, alone_less_the_known, public=True), pairs_share_the_public_seed,
         "large_court", -1),
    Case("drop-outs", shared(6, best_of_the_honest, (2, 3, 4)), absent_count_as_honest,
         "large_court", 0.7),
    Case("repair", shared(6, alone, (2, 3, 4)), repair_of_all, "large_court", -1),
    Case("wake-ups, Laplace", wake_ups("laplace", K), clip_number_by_number, "slow_court", -1),
    Case("wake-ups, Gaussian", wake_ups("gaussian", 1), noise_for_a_record_that_is_left_out,
         "slow_court", 0.25),
]  # fmt: skip


@each(CASES)
def test_the_fault_is_found(request: pytest.FixtureRequest, case: Case, monkeypatch: Patch) -> None:
    case.fault(monkeypatch)
    found, claim = case.heard(request)
    assert found > claim


@each(CASES)
def test_the_library_is_acquitted(request: pytest.FixtureRequest, case: Case) -> None:
    found, claim = case.heard(request)
    assert case.looks * claim < found < claim
