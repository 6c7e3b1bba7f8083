"""Whole rounds under each form of trust: restored, by workers, with and without everybody."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from fedsieve.algorithms.trust import (
    OwnNoise,
    ServerNoise,
)
from fedsieve.compression.projections import LowRank
from fedsieve.poisoning import SignFlip
from fedsieve.privacy import (
    GaussianMechanism,
)
from fedsieve.simulation.checkpoint import newest, save
from fedsieve.simulation.executors import OneByOne
from fedsieve.simulation.job import Job
from fedsieve.simulation.loop import Simulation
from tests.algorithms.trusts import COMBINATIONS, STREAMS, TRUSTS, N


def bits(job: Job) -> torch.Tensor:
    with Simulation(job) as simulation:
        for _ in range(job.rounds):
            simulation.step()
    return simulation.theta.clone()


@pytest.mark.parametrize(("name", "unit", "trust"), COMBINATIONS)
def test_a_restored_simulation_goes_on_bit_for_bit(
    job_of: Callable[..., Job], tmp_path: Any, name: str, unit: str, trust: str
) -> None:
    given: dict[str, Any] = {"rounds": 5, "participation": {"size": 5, "dropout": 0.1}}
    if name == "sieve":
        given["projection"] = LowRank(k=30, refresh=2)
    whole = bits(job_of(name, unit, trust, **given))
    with Simulation(job_of(name, unit, trust, **given)) as first:
        for _ in range(3):
            first.step()
        save(tmp_path, first.checkpoint())
    with Simulation(job_of(name, unit, trust, **given)) as second:
        held = newest(tmp_path)
        assert held is not None
        second.restore(held)
        for _ in range(2):
            second.step()
        assert torch.equal(second.theta, whole)


@pytest.mark.parametrize(
    ("trust", "workers"), [("central", 2), *(("distributed", w) for w in (1, 2))]
)
def test_any_number_of_workers_gives_the_same_bits(
    job_of: Callable[..., Job], trust: str, workers: int
) -> None:
    given: dict[str, Any] = {"rounds": 2, "participation": {"dropout": 0.2}, "least": 4}
    whole = bits(job_of("fedavg", "client", trust, **given))
    assert torch.equal(bits(job_of("fedavg", "client", trust, workers=workers, **given)), whole)


@pytest.mark.parametrize("unit", ["record", "client"])
@pytest.mark.parametrize("trust", TRUSTS)
def test_one_pass_and_one_by_one_send_the_same_noise(
    job_of: Callable[..., Job], unit: str, trust: str
) -> None:
    class Reference(Simulation):
        def _start(self, broadcast: Any) -> Any:
            return OneByOne(self.job.algorithm)

    job = job_of("dshb", unit, trust, rounds=2)
    with Reference(job) as simulation:
        for _ in range(2):
            simulation.step()
    again = bits(job_of("dshb", unit, trust, rounds=2))
    torch.testing.assert_close(simulation.theta, again, rtol=0, atol=1e-5)


def test_with_everybody_there_the_servers_momentum_is_the_mean_of_the_clients(
    mechanism_of: Callable[..., Any], make_job: Callable[..., Job]
) -> None:
    """Without noise to speak of: under the mean it does not matter where the momentum is."""
    mechanism = mechanism_of("record", sigma=1e-9)
    jobs = [
        make_job("dshb", mechanism=mechanism, noise=noise, rounds=4)
        for noise in (OwnNoise(), ServerNoise(STREAMS))
    ]
    local, central = (bits(job) for job in jobs)
    torch.testing.assert_close(local, central, rtol=0, atol=1e-5)
    with Simulation(jobs[1]) as simulation:
        assert simulation.memory == {}
        assert simulation.shared["momentum"].shape == simulation.theta.shape


def test_shared_noise_moves_the_momentum_only_where_clients_come_and_go(
    job_of: Callable[..., Job],
) -> None:
    steady = job_of("dshb", "record", "distributed")
    assert "momentum" in Simulation(steady).memory
    moving = job_of("dshb", "record", "distributed", participation={"size": 5})
    parts = replace(moving.algorithm.parts, everybody=False)  # type: ignore[attr-defined]
    moving = replace(moving, algorithm=replace(moving.algorithm, parts=parts))  # type: ignore[type-var]
    assert "momentum" in Simulation(moving).shared


def test_at_client_level_the_steps_are_free_of_noise_and_the_update_is_clipped(
    make_job: Callable[..., Job],
) -> None:
    quiet = GaussianMechanism(clip=1e-3, noise_multiplier=1e-6, batch=1, unit="client")
    given: dict[str, Any] = {"rounds": 1, "steps": 3, "options": {"lr": 0.5, "server_lr": 1.0}}
    plain = make_job("fedavg", clients=1, **given)
    held = make_job("fedavg", clients=1, mechanism=quiet, **given)
    start = plain.theta
    moved, short = bits(plain) - start, bits(held) - start
    assert float(short.norm()) == pytest.approx(1e-3, rel=1e-3)
    assert torch.cosine_similarity(moved, short, dim=0) > 0.9999


def test_malicious_clients_cannot_outweigh_the_servers_clip(job_of: Callable[..., Job]) -> None:
    """10^6 times its message, or less, is what an attacker would have without the second clip."""
    attack = {"byzantine": (0,), "attack": SignFlip(strength=1e6)}
    attacked, calm = (
        bits(job_of("dshb", "client", "central", rounds=1, **given)) for given in (attack, {})
    )
    # both steps are of 0.2 (1 - 0.9) (mean of six clipped + noise 0.5 / 6)
    assert (attacked - calm).norm() <= 0.2 * 0.1 * 2 / N + 1e-6
