"""Malicious clients whose client rule is their own: without noise, or trained near the model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from fedsieve.aggregation import CAF, Mean
from fedsieve.algorithms.trust import SharedNoise
from fedsieve.learning import sampling
from fedsieve.learning.losses import cross_entropy
from fedsieve.learning.nearness import Nearness
from fedsieve.poisoning import ConstrainAndScale, Knowledge, MessageAttack, Scene, UnNoised
from fedsieve.privacy import CorrelatedGaussian, GaussianMechanism
from fedsieve.simulation.job import Job
from fedsieve.simulation.loop import Simulation

N, CHEATS = 12, (1, 4)


@dataclass(frozen=True)
class Spy(MessageAttack):
    """Keeps what it is shown, and sends its own messages."""

    omits_noise: bool = False  # type: ignore[misc]
    pairs: bool = True
    trained: Nearness | None = None
    seen: list[Scene] = field(default_factory=list)

    uses_own = True  # type: ignore[assignment]

    @property
    def omits_pairs(self) -> bool:
        return self.pairs

    @property
    def near(self) -> Nearness | None:
        return self.trained

    @property
    def knowledge(self) -> Knowledge:
        return Knowledge.NOISE

    def craft(self, scene: Scene) -> Tensor:
        self.seen.append(scene)
        assert scene.own is not None
        return scene.own.clone()


# -------------------------------------------------------------------------- distributed noise

IND, COR, SIGMA = 1.5, 2.0, 1.0


def shared_run(
    make_job: Callable[..., Job], spy: Spy, rounds: int = 1, size: float = 1.0, **given: Any
) -> list[Scene]:
    mechanism = GaussianMechanism(clip=1.0, noise_multiplier=SIGMA * size, batch=8)
    noise = SharedNoise(CorrelatedGaussian(1.0, IND * size, COR * size, 8), colluders=2)
    job = make_job(
        "dshb",
        clients=N,
        mechanism=mechanism,
        noise=noise,
        byzantine=CHEATS,
        attack=spy,
        rule=given.pop("rule", CAF(2)),
        options={"momentum": 0.0, "lr": 1e-4},
        rounds=rounds,
        **given,
    )
    with Simulation(job) as simulation:
        for _ in range(rounds):
            simulation.step()
    return spy.seen


def std(noise: Tensor) -> float:
    return float(noise.double().square().mean().sqrt())


def within(found: float, expected: float, numbers: int) -> bool:
    return abs(found / expected - 1) < 4.5 / math.sqrt(2 * numbers)


def test_who_omits_all_of_shared_noise_sends_what_it_would_have_hidden(make_job) -> None:
    rounds = 8
    plain = shared_run(make_job, Spy(), rounds, size=1e-9)
    silent = shared_run(make_job, Spy(omits_noise=True), rounds)
    noisy = shared_run(make_job, Spy(), rounds)
    numbers = 2 * 37 * rounds
    for bare, told in zip(plain, silent, strict=True):
        torch.testing.assert_close(told.own, bare.own, atol=1e-3, rtol=1e-3)
    whole = torch.stack([a.own - b.own for a, b in zip(noisy, plain, strict=True)])
    assert within(std(whole), math.sqrt(IND**2 + (N - 1) * COR**2) / 8, numbers)
    assert torch.equal(silent[0].honest, noisy[0].honest)  # the others' noise is untouched
    # what they shared with the cheats is left in their sum, where nothing cancels it
    left = torch.stack([a.honest - b.honest for a, b in zip(silent, plain, strict=True)]).sum(1)
    expected = math.sqrt((N - 2) * (IND**2 + 2 * COR**2)) / 8
    assert within(std(left), expected, 37 * rounds)


def test_who_keeps_the_pairs_omits_its_own_part_alone(make_job) -> None:
    rounds = 8
    plain = shared_run(make_job, Spy(), rounds, size=1e-9)
    kept = shared_run(make_job, Spy(omits_noise=True, pairs=False), rounds)
    noisy = shared_run(make_job, Spy(), rounds)
    own = torch.stack([a.own - b.own for a, b in zip(noisy, kept, strict=True)])
    assert within(std(own), IND / 8, 2 * 37 * rounds)
    # and in the sum of all messages the pairs still cancel
    total = [
        torch.cat([a.honest - b.honest, a.own - b.own]).sum(0)
        for a, b in zip(kept, plain, strict=True)
    ]
    assert within(std(torch.stack(total)), math.sqrt(N - 2) * IND / 8, 37 * rounds)


def test_under_shared_noise_too_krum_takes_whoever_omits_it(make_job) -> None:
    def wins(spy: Spy) -> int:
        count = 0
        for scene in shared_run(make_job, spy, rounds=10):
            assert scene.own is not None
            stack = torch.cat([scene.honest, scene.own[:1]])
            scores = torch.cdist(stack, stack).square().sort(dim=1).values[:, 1:8].sum(dim=1)
            count += int(scores.argmin()) == N - 2
        return count

    assert wins(Spy(omits_noise=True)) == 10
    assert wins(Spy(omits_noise=True, pairs=False)) < 6


def test_the_attack_says_what_it_omits(make_job) -> None:
    assert UnNoised().omits_noise
    assert UnNoised().omits_pairs
    assert not UnNoised(pairs="keep").omits_pairs
    with pytest.raises(ValueError, match="pairs='break' is not one of omit, keep"):
        UnNoised(pairs="break")  # type: ignore[arg-type]


# -------------------------------------------------------------------------- local training

LR, STEPS, BATCH = 0.3, 4, 8


def slow_training(job: Job, client: int, alpha: float, distance: str) -> Tensor:
    """K steps of automatic differentiation of alpha L_class + (1 - alpha) L_ano."""
    model = job.algorithm.parts.gradient.gradients.model  # type: ignore[attr-defined]
    G = job.theta.clone()
    X = G.clone()
    for step in range(STEPS):
        batch = sampling.minibatch(job.shards, (client,), BATCH, job.streams, 0, step)
        at = X.clone().requires_grad_()
        parameters = {s.name: at[s.start : s.stop].view(s.shape) for s in model.layout.slots}
        outputs = torch.func.functional_call(model.module, parameters, batch.x)
        loss = alpha * cross_entropy(outputs, batch.y).mean()
        if distance == "norm":
            loss = loss + (1 - alpha) * (at - G).norm() if step else loss
        else:
            loss = loss + (1 - alpha) * (1 - at @ G / at.norm() / G.norm())
        (gradient,) = torch.autograd.grad(loss, at)
        X = X - LR * gradient
    return X - G


@pytest.mark.parametrize("alpha", [0.4, 0.9])
@pytest.mark.parametrize("distance", ["norm", "cosine"])
def test_constrain_and_scale_trains_on_both_losses(
    make_job: Callable[..., Job], alpha: float, distance: Any
) -> None:
    attack = ConstrainAndScale(alpha=alpha, evades=distance, norm=1e6, boost=2.0)
    assert attack.near == Nearness(alpha, distance)

    def sent(spy: Spy) -> Scene:
        job = make_job(
            "fedavg",
            batch=BATCH,
            byzantine=CHEATS,
            attack=spy,
            rule=Mean(),
            steps=STEPS,
            options={"lr": LR},
            rounds=1,
        )
        with Simulation(job) as simulation:
            simulation.step()
        expected = [slow_training(job, client, alpha, distance) for client in CHEATS]
        (scene,) = spy.seen
        if spy.trained is not None:
            torch.testing.assert_close(scene.own, torch.stack(expected), atol=1e-5, rtol=1e-4)
            rows = attack.craft(scene)
            torch.testing.assert_close(rows, 2 * torch.stack(expected), atol=2e-5, rtol=1e-4)
        return scene

    constrained, free = sent(Spy(trained=attack.near)), sent(Spy())
    assert torch.equal(constrained.honest, free.honest)  # nobody else's training changes
    assert constrained.own is not None
    assert free.own is not None
    assert (constrained.own.norm(dim=1) < free.own.norm(dim=1)).all()


@pytest.mark.parametrize("algorithm", ["fedavg", "scaffold", "peer-to-peer"])
def test_every_algorithm_with_local_steps_can_stay_near(
    make_job: Callable[..., Job], algorithm: str
) -> None:
    def own(spy: Spy) -> Tensor:
        job = make_job(algorithm, byzantine=CHEATS, attack=spy, rule=Mean(), steps=3, rounds=2)
        with Simulation(job) as simulation:
            for _ in range(2):
                simulation.step()
        told = spy.seen[-1].own
        assert told is not None
        return told

    near = own(Spy(trained=Nearness(0.5)))
    assert near.isfinite().all()
    assert not torch.allclose(near, own(Spy()))
    torch.testing.assert_close(own(Spy(trained=Nearness(1.0))), own(Spy()))


def test_alpha_of_one_is_ordinary_training() -> None:
    assert ConstrainAndScale().near is None
    assert replace(ConstrainAndScale(), alpha=0.5).near == Nearness(0.5)
    for change, told in (
        ({"alpha": 0.0}, r"alpha=0.0 must lie in \(0, 1\]"),
        ({"evades": "sign"}, "evades='sign' is not one of norm, cosine"),
    ):
        with pytest.raises(ValueError, match=told):
            ConstrainAndScale(**change)  # type: ignore[arg-type]
