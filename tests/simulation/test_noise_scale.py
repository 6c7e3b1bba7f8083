"""The standard deviation that an attack is told is that of the noise in the honest messages.

Two runs of one federation, with and without noise to speak of: same batches, and a rule that keeps
the model where it is. What their messages differ by is the noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from fedsieve.aggregation import Mean
from fedsieve.algorithms.form import Algorithm, Cohort
from fedsieve.algorithms.momentum import carried
from fedsieve.algorithms.trust import EVERYTHING, Noise, OwnNoise, ServerNoise, SharedNoise
from fedsieve.compression.projections import (
    Dct,
    Identity,
    LowRank,
    RandomBasis,
    RandomMask,
    carry,
)
from fedsieve.learning.layout import Layout, Slot
from fedsieve.poisoning import Knowledge, MessageAttack, Scene
from fedsieve.privacy import AdaptiveClip, CorrelatedGaussian, GaussianMechanism, IntegerMechanism
from fedsieve.randomness import Streams
from fedsieve.registry import components
from fedsieve.simulation.job import Job
from fedsieve.simulation.loop import Simulation

N, D, ROUNDS, STEPS, SIGMA = 20, 37, 6, 3, 2.0
QUIET = 1e-9
LAWS = ("gaussian", "discrete-gaussian", "skellam")


@dataclass(frozen=True)
class Spy(MessageAttack):
    """Keeps what it is shown; sends the honest mean."""

    seen: list[Scene]

    @property
    def knowledge(self) -> Knowledge:
        return Knowledge.NOISE

    def craft(self, scene: Scene) -> Tensor:
        self.seen.append(scene)
        return scene.rows(scene.mean)


@dataclass(frozen=True)
class Still(Mean):
    """Always zero: the model stays where it is."""

    def _combine(self, rows: Any, *, explain: bool) -> Any:
        vector, weights = super()._combine(rows, explain=explain)
        return torch.zeros_like(vector), weights


def mechanism_of(unit: Any, law: Any, sigma: float) -> GaussianMechanism | IntegerMechanism:
    batch = 8 if unit == "record" else 1
    if law == "gaussian" or sigma == QUIET:
        return GaussianMechanism(0.7, sigma, batch, unit)
    return IntegerMechanism(0.7, sigma, batch, D, law, unit)


def noise_of(trust: str, mechanism: Any) -> Noise:
    if trust == "local":
        return OwnNoise()
    if trust == "central":
        return ServerNoise(Streams(5, 1))
    scale = mechanism.noise_multiplier
    shared = CorrelatedGaussian(mechanism.clip, 0.6 * scale, 0.5 * scale, mechanism.batch)
    return SharedNoise(shared, colluders=2)


def with_moving_clip(algorithm: Any) -> Algorithm:
    moving = AdaptiveClip(noise_std=3.0, rate=0.8)
    gradient = replace(algorithm.parts.gradient, adaptive=moving)
    moved: Algorithm = replace(algorithm, parts=replace(algorithm.parts, gradient=gradient))
    return moved


def messages(
    make_job: Callable[..., Job],
    name: str,
    unit: str,
    trust: str,
    law: str,
    sigma: float,
    *,
    moving: bool = False,
    everybody: bool = True,
    **given: Any,
) -> list[Scene]:
    mechanism = mechanism_of(unit, law, sigma)
    seen: list[Scene] = []
    job = make_job(
        name,
        clients=N,
        mechanism=mechanism,
        noise=noise_of(trust, mechanism),
        noise_seed=1,
        rounds=ROUNDS,
        steps=STEPS,
        byzantine=(1, 4),
        attack=Spy(seen),
        rule=Still(0),
        options={"lr": 1e-3, "server_lr": 1e-4, "momentum": 0.9, "mixing": 1.0},
        **given,
    )
    algorithm: Any = job.algorithm
    if not everybody:
        algorithm = replace(algorithm, parts=replace(algorithm.parts, everybody=False))
    with Simulation(
        replace(job, algorithm=with_moving_clip(algorithm) if moving else algorithm)
    ) as run:
        for _ in range(ROUNDS):
            run.step()
    return seen


def check(make_job: Callable[..., Job], *case: Any, **given: Any) -> None:
    noisy, quiet = (messages(make_job, *case, sigma, **given) for sigma in (SIGMA, QUIET))
    assert len(noisy) == len(quiet) >= ROUNDS / 2  # an attacker is not always drawn
    for told, plain in zip(noisy, quiet, strict=True):
        noise = (told.honest - plain.honest).double()
        if told.noise_std is None:
            assert noise.abs().max() < 1e-3  # the model moves, by the server's noise
            continue
        free = noise.numel() - noise.shape[1]  # noise that cancels leaves n - 1 of n
        off = float(noise.square().sum()) / told.noise_std**2 / noise.numel() - 1
        assert abs(off) < 4.5 * math.sqrt(2 / free)


ONE_GRADIENT = [
    (name, unit, trust, law)
    for name in ("dshb", "sieve")
    for unit, trust in sorted(EVERYTHING)
    for law in (LAWS if (unit, trust) == ("record", "local") else LAWS[:1])
]
SEVERAL = [
    ("fedavg", "record", "local", "gaussian"),
    ("fedavg", "client", "local", "gaussian"),
    ("fedavg", "client", "distributed", "gaussian"),
    ("fedavg", "client", "central", "gaussian"),
    ("scaffold", "record", "local", "gaussian"),
    ("peer-to-peer", "record", "local", "gaussian"),
    ("fedavg", "record", "local", "skellam"),
]


@pytest.mark.parametrize("case", [*ONE_GRADIENT, *SEVERAL], ids="-".join)
def test_whoever_is_told_of_the_noise_is_told_the_truth(
    make_job: Callable[..., Job], case: tuple[str, ...]
) -> None:
    check(make_job, *case)
    (scene, *_) = messages(make_job, *case, SIGMA)
    assert (scene.noise_std is None) == (case[2] == "central")


@pytest.mark.parametrize("case", [*ONE_GRADIENT, *SEVERAL], ids="-".join)
def test_with_clients_that_come_and_go_and_manage_less(
    make_job: Callable[..., Job], case: tuple[str, ...]
) -> None:
    where = {"size": 10, "dropout": 0.2, "stragglers": 0.5}
    check(make_job, *case, participation=where, everybody=False)


@pytest.mark.parametrize("name", ["dshb", "sieve"])
def test_with_a_clip_that_moves(make_job: Callable[..., Job], name: str) -> None:
    check(make_job, name, "record", "local", "gaussian", moving=True)
    seen = messages(make_job, name, "record", "local", "gaussian", SIGMA, moving=True)
    fixed = messages(make_job, name, "record", "local", "gaussian", SIGMA)
    assert seen[-1].noise_std != pytest.approx(fixed[-1].noise_std, rel=0.05)  # it did


@pytest.mark.parametrize(
    "projection",
    [RandomMask(k=20, refresh=1), RandomBasis(k=30, refresh=2), LowRank(k=30, refresh=2)],
    ids=str,
)
def test_momentum_keeps_of_its_noise_what_the_next_map_holds(
    make_job: Callable[..., Job], projection: Any
) -> None:
    check(make_job, "sieve", "record", "local", "gaussian", projection=projection)


def test_who_has_nobody_to_share_noise_with_adds_its_own_alone() -> None:
    mechanism = mechanism_of("client", "gaussian", SIGMA)
    noise = noise_of("distributed", mechanism)
    alone = Cohort((0,), (0,), None, Streams(0, 1), (1,))  # type: ignore[arg-type]
    sent = noise.at_client(mechanism, torch.zeros(1, 5000), alone, 0).messages
    std = noise.std(mechanism, alone)
    assert std is not None
    assert float(sent.std()) == pytest.approx(std, rel=4.5 / math.sqrt(2 * 5000))


def test_every_algorithm_with_privacy_is_among_the_cases() -> None:
    private = {c.name for c in components("algorithm")} - {"byrd-saga"}
    assert {name for name, *_ in (*ONE_GRADIENT, *SEVERAL)} == private


class Scaled:
    """The layout's own numbers, three times as long in the model: a map without layers."""

    d = k = D
    maps = None

    def project(self, x: Tensor) -> Tensor:
        return 0.5 * x

    def lift(self, y: Tensor) -> Tensor:
        return 3 * y

    def to(self, device: torch.device) -> Scaled:
        return self


def test_what_is_carried_along_of_white_noise() -> None:
    layout = Layout((Slot("w", (4, 16), 0), Slot("b", (4,), 64), Slot("v", (3, 9), 68)), (4, 4))
    plans = [
        kind.plan(layout, t, 0, None)
        for kind in (Identity(), RandomMask(k=30), RandomBasis(k=50), Dct(k=40))
        for t in (0, 7)
    ]
    for old in plans:
        for new in plans:
            white = torch.eye(old.k, dtype=torch.float64)
            expected = float(carry(layout, old, new, white).square().sum()) / new.k
            found = carried(layout, old, new, torch.device("cpu"))
            assert found == pytest.approx(expected, rel=1e-5)
    scaled = Scaled()
    assert carried(layout, scaled, scaled, torch.device("cpu")) == pytest.approx(1.5**2)
