"""The same trial for each form of clip, noise, unit and trust, with one fault planted in each.

Where nothing is sampled the claim is tight: the best attack of all is played, and the bound comes
close to the claim.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedsieve.algorithms import parts
from fedsieve.algorithms.trust import ServerNoise
from fedsieve.learning.clipping import Clip
from fedsieve.learning.data import Dataset
from fedsieve.privacy import (
    AdaptiveClip,
    GaussianMechanism,
    IntegerMechanism,
)
from fedsieve.privacy.discrete import DiscreteGaussian, Skellam
from fedsieve.randomness import Streams
from fedsieve.simulation.job import Job
from tests.mutants.trials import ONE, Case, K, Patch, Verdict, each

MECHANISM = GaussianMechanism(clip=1.0, noise_multiplier=1.0, batch=4.0)


def first_number(messages: Tensor) -> Tensor:
    return messages[..., 0].sum(dim=0)


# ------------------------------------------------------------------------------- integer noise


def integers(law: Any, attack: Callable[[Tensor], Tensor] = first_number) -> Any:
    def verdict(court: Any) -> Verdict:
        mechanism = IntegerMechanism(1.0, 1.0, 4.0, K, law)
        job = court.job(mechanism=mechanism, data=court.records("none"))
        return court.bound(attack(court.messages(job))), court.claim(job)

    return verdict


def across_numbers(messages: Tensor) -> Tensor:
    """The canary's number less one that holds noise alone."""
    return (messages[..., 0] - messages[..., -1]).sum(dim=0)


def noise_std_halved(patch: Patch) -> None:
    variance = DiscreteGaussian.variance.fget  # type: ignore[attr-defined]
    patch.setattr(DiscreteGaussian, "variance", property(lambda self: variance(self) / 4))


def one_draw_for_all_numbers(patch: Patch) -> None:
    noise = Skellam.noise
    patch.setattr(Skellam, "noise", lambda self, n, rng: np.repeat(noise(self, 1, rng), n))


# ------------------------------------------------------------------------------- forms of clips


def automatic(court: Any) -> Verdict:
    data = court.records("none")
    data.y[0] = -1000.0
    job = court.job(mechanism=replace(MECHANISM, clipping="automatic"), data=data)
    return court.bound(first_number(court.messages(job))), court.claim(job)


def norms_of_the_batch(patch: Patch) -> None:
    patch.setattr(
        Clip, "factors", lambda self, n: (self.norm / (n.mean() + self.gamma)).expand_as(n)
    )


def per_layer(court: Any) -> Verdict:
    """The attacker knows the model, and so where the canary's clipped gradient points to."""
    widths = (K, 2, 2, 2, 1)
    layers = [nn.Linear(a, b, bias=False) for a, b in itertools.pairwise(widths)]
    for layer in layers:
        nn.init.ones_(layer.weight)
    data = court.records("none")
    data.y[0] = -1000.0
    job = court.job(
        mechanism=replace(MECHANISM, clipping="per-layer"),
        module=nn.Sequential(*layers),
        data=data,
    )
    engine = job.algorithm.parts.gradient.gradients
    (gradient,) = engine.per_sample(job.theta, data.x[:1], data.y[:1]).double()
    slots = engine.model.layout.slots
    direction = torch.cat(
        [nn.functional.normalize(gradient[s.start : s.stop], dim=0) for s in slots]
    )
    scores = court.messages(job).sum(dim=0) @ direction / len(slots) ** 0.5
    return court.bound(scores), court.claim(job)


def a_whole_clip_for_every_layer(patch: Patch) -> None:
    patch.setattr(Clip, "over", lambda self, widths: (Clip(self.norm),) * len(widths))


# ------------------------------------------------------------------------- a clip that moves


def moving_clip(shared: bool) -> Any:
    """One record per client and no sampling: long one way, or just within the clip the other way.

    With ``shared``, the attack on a count whose noise is that of the message's first number.
    """

    def verdict(court: Any) -> Verdict:
        x = torch.zeros(2, K)
        x[:, 0] = 1.0
        y = torch.tensor([-10.0, 0.99])
        data = Dataset("replaced", x, y, x, y, classes=0)
        sigma, adaptive = 2.0, AdaptiveClip.costing(2.0, share=0.95)
        job = court.job(
            ((0,),) * court.trials + ((1,),) * court.trials,
            mechanism=replace(ONE, noise_multiplier=sigma),
            adaptive=adaptive,
            data=data,
        )
        (sent,) = court.heard(job, 1)
        s, s_g = adaptive.noise_std, adaptive.gradient_multiplier(sigma)
        gradient, count = sent.messages[:, 0].double(), sent.shares.double() - 0.5
        best = 1.99 * gradient / s_g**2 - count / s**2  # log of the likelihoods' ratio
        scores = gradient / s_g - count / s if shared else best
        return court.bound(scores), court.claim(job, 1, "replace-one")

    return verdict


def budget_of_the_count_forgotten(patch: Patch) -> None:
    patch.setattr(AdaptiveClip, "gradient_multiplier", lambda self, sigma: sigma)


def noise_of_the_message_on_the_count(patch: Patch) -> None:
    noise = Streams.noise
    patch.setattr(Streams, "noise", lambda self, *labels: noise(self, *labels[:3]))


# ------------------------------------------------------------------------------ unit of a client


def client_unit(algorithm: str) -> Any:
    """All that a client holds, or the contrary of it."""

    def verdict(court: Any) -> Verdict:
        x = torch.zeros(2, K)
        x[:, 0] = 1.0
        y = torch.tensor([-10.0, 10.0])
        job = court.job(
            ((0,),) * court.trials + ((1,),) * court.trials,
            algorithm=algorithm,
            mechanism=replace(ONE, noise_multiplier=3.0, unit="client"),
            data=Dataset("replaced", x, y, x, y, classes=0),
            options={"lr": 1.0, "server_lr": 1e-6} if algorithm == "fedavg" else None,
            steps=2 if algorithm == "fedavg" else 1,
        )
        scores = first_number(court.messages(job))
        return court.bound(scores), court.claim(job, 2, "replace-one")

    return verdict


def update_not_clipped(patch: Patch) -> None:
    patch.setattr(parts, "clipped", lambda v, clip: (v, torch.ones(len(v))))


# ------------------------------------------------------------------------------------ trust


def worlds(court: Any, others: int, **given: Any) -> Iterator[Job]:
    """Two runs in which a trial is a round: client 0 holds the canary, or nothing."""
    data = court.records("none")
    data.y[0] = -1e6  # however the model walks, its gradient points this way
    for seed, record in ((1, 0), (2, 1)):
        streams = Streams(0, noise_seed=seed)
        noise = given["noise"](streams)
        yield court.job(
            [(record,)] + [(1,)] * others,
            mechanism=ONE,
            data=data,
            **(given | {"noise": noise, "seed": seed}),
        )


def central(court: Any) -> Verdict:
    """Somebody who sees the models."""
    scores = []
    n = 2
    for job in worlds(court, n - 1, noise=ServerNoise, options={"lr": 1.0}):
        claim = court.claim(job, 1)
        walked = court.models(job, court.trials)[:, 0]
        scores.append((walked[:-1] - walked[1:]) * n)
    return court.bound(torch.cat(scores)), claim


def noise_divided_by_n_twice(patch: Patch) -> None:
    at_server = ServerNoise.at_server

    def weak(self: ServerNoise, mechanism: Any, stack: Tensor, *rest: Any) -> Tensor:
        sigma = mechanism.noise_multiplier / len(stack)
        return at_server(self, replace(mechanism, noise_multiplier=sigma), stack, *rest)

    patch.setattr(ServerNoise, "at_server", weak)


# ------------------------------------------------------------------------------------- verdicts


CASES = [
    Case("discrete Gaussian", integers("discrete-gaussian"), noise_std_halved),
    Case("Skellam", integers("skellam", across_numbers), one_draw_for_all_numbers, looks=-1),
    Case("automatic clip", automatic, norms_of_the_batch),
    Case("clip per layer", per_layer, a_whole_clip_for_every_layer),
    Case("moving clip", moving_clip(shared=False), budget_of_the_count_forgotten, looks=0.4),
    Case("count", moving_clip(shared=True), noise_of_the_message_on_the_count),
    Case("client, dshb", client_unit("dshb"), update_not_clipped, looks=0.5),
    Case("client, fedavg", client_unit("fedavg"), update_not_clipped, "slow_court", 0.3),
    Case("central", central, noise_divided_by_n_twice, "slow_court", 0.25),
]


@each(CASES)
def test_the_fault_is_found(request: pytest.FixtureRequest, case: Case, monkeypatch: Patch) -> None:
    case.fault(monkeypatch)
    found, claim = case.heard(request)
    assert found > claim


@each(CASES)
def test_the_library_is_acquitted(request: pytest.FixtureRequest, case: Case) -> None:
    found, claim = case.heard(request)
    assert case.looks * claim < found < claim
