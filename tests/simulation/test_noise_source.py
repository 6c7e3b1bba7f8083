"""Runs without a noise seed: nothing secret comes from a seed, and no noise is there twice."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fedsieve import randomness
from fedsieve.aggregation import CAF
from fedsieve.algorithms.trust import OwnNoise, ServerNoise, SharedNoise
from fedsieve.privacy import AdaptiveClip, CorrelatedGaussian, GaussianMechanism, Ledger
from fedsieve.randomness import Stream, Streams
from fedsieve.simulation.checkpoint import Checkpoint, newest, save
from fedsieve.simulation.job import Job
from fedsieve.simulation.loop import Simulation

N, ROUNDS, SIGMA, BATCH = 6, 3, 1000.0, 8  # the noise drowns the signal
TRUSTS = ("local", "distributed", "central")


@pytest.fixture
def job_of(make_job: Callable[..., Job]) -> Callable[..., Job]:
    """A small federation whose noise has no seed."""

    def make(trust: str, unit: str = "record", name: str = "dshb", **given: Any) -> Job:
        batch = BATCH if unit == "record" else 1
        mechanism = GaussianMechanism(1.0, SIGMA, batch, unit=unit)  # type: ignore[arg-type]
        noise: Any = OwnNoise()
        if trust == "central":
            noise = ServerNoise(Streams(5, given.get("noise_seed")))
        elif trust == "distributed":
            noise = SharedNoise(CorrelatedGaussian.calibrated(1.0, batch, SIGMA, N, f=1), 1)
        given = {"noise_seed": None, "rounds": ROUNDS} | given
        if trust != "central":
            given["rule"] = CAF(1)
        seeded = given["noise_seed"] is not None
        ledger = Ledger(1e-5, "add-remove", repeatable=seeded, unit=mechanism.unit)
        return make_job(name, mechanism=mechanism, noise=noise, ledger=ledger, **given)

    return make


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Stream]:
    """The streams that numpy's own generator was seeded for."""
    seen: list[Stream] = []
    keyed = randomness._keyed

    def spy(seed: int, stream: Stream, labels: tuple[int, ...]) -> np.random.Generator:
        seen.append(stream)
        return keyed(seed, stream, labels)

    monkeypatch.setattr(randomness, "_keyed", spy)
    return seen


@pytest.mark.parametrize(
    ("name", "unit", "trust"),
    [
        *(("dshb", unit, trust) for unit in ("record", "client") for trust in TRUSTS),
        ("fedavg", "record", "local"),
        ("scaffold", "record", "local"),
    ],
)
def test_noise_and_secret_batches_hang_on_no_seed(
    job_of: Callable[..., Job], drawn: list[Stream], name: str, unit: str, trust: str
) -> None:
    public = {Stream.PUBLIC, Stream.ATTACKER}
    if unit == "client":  # a whole client is protected: the order of its records hides nothing
        public.add(Stream.DATA)
    with Simulation(job_of(trust, unit, name, rounds=2)) as simulation:
        simulation.step(), simulation.step()
    assert set(drawn) <= public
    with Simulation(job_of(trust, unit, name, rounds=2, noise_seed=3)) as simulation:
        simulation.step()
    assert Stream.NOISE in drawn  # the spy sees a seeded run's
    assert (Stream.INCLUSION in drawn) == (unit == "record")
    assert (Stream.PAIR in drawn) == (trust == "distributed")


def messages(
    monkeypatch: pytest.MonkeyPatch, job: Job, start: Checkpoint | None = None
) -> tuple[Tensor, Checkpoint]:
    """All messages (rounds, n, k) of a run to its end, and its state after the first round."""
    sent: list[Tensor] = []
    compute = Simulation._compute

    def keep(self: Simulation, *given: Any) -> Any:
        result = compute(self, *given)
        sent.append(result.messages.double().clone())
        return result

    with monkeypatch.context() as patched, Simulation(job) as simulation:
        patched.setattr(Simulation, "_compute", keep)
        if start is not None:
            simulation.restore(start)
        simulation.step()
        after = simulation.checkpoint()
        while simulation.round < job.rounds:
            simulation.step()
    return torch.stack(sent), after


def std_of(job: Job) -> float:
    """Standard deviation of the noise in one message."""
    parts = job.algorithm.parts.gradient  # type: ignore[attr-defined]
    if isinstance(parts.noise, SharedNoise):
        return parts.noise.correlated.noise_std(N)
    return parts.mechanism.noise_std


@pytest.mark.parametrize(("trust", "workers"), [("local", 0), ("local", 2), ("distributed", 0)])
def test_no_noise_is_there_twice(
    job_of: Callable[..., Job],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    trust: str,
    workers: int,
) -> None:
    """Not in two clients, rounds, worker processes or runs of a job, nor after a restart.

    Over k numbers the squared distance of two messages is 2 s^2 chi^2_k, s their deviation. Where
    noise returns, only the signal and (distributed) a client's own part are left of it, which is
    2.5 % of the variance. One in 1e6 tests would find two independent rows as near as 12 %.
    """
    job = job_of(trust, "client", "fedavg", workers=workers)
    first, after = messages(monkeypatch, job)
    runs = [first]
    if not workers:
        save(tmp_path, after)
        resumed, _ = messages(monkeypatch, job, newest(tmp_path))
        another, _ = messages(monkeypatch, job)
        restarted, _ = messages(monkeypatch, replace(job, streams=Streams(5)))
        assert [len(run) for run in (first, resumed, another, restarted)] == [3, 2, 3, 3]
        runs += [resumed, another, restarted]
    rows = torch.cat([run.flatten(0, 1) for run in runs])
    k = rows.shape[1]
    nearest = torch.pdist(rows).square().min() / (2 * k * std_of(job) ** 2)
    assert nearest > 0.12
    if trust == "distributed":  # what the two of a pair share is the same, or it would not cancel
        assert first.mean(1).std() / std_of(job) < 0.1


@pytest.mark.parametrize("trust", ["local", "distributed"])
def test_no_secret_is_written_down(job_of: Callable[..., Job], tmp_path: Path, trust: str) -> None:
    with Simulation(job_of(trust)) as simulation:
        simulation.step()
        save(tmp_path, simulation.checkpoint())
        key = simulation.job.streams.pair_secret._key
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"noise_seed" in written
    spelled = [key, key.hex().encode(), str(int.from_bytes(key, "big")).encode()]
    spelled += [key[:16], str(int.from_bytes(key, "little")).encode()]
    assert not any(form in written for form in spelled)


def on_grid(x: Tensor, grid: float) -> bool:
    return torch.equal((x / grid).round() * grid, x)


def test_whoever_adds_continuous_noise_releases_multiples_of_the_recorded_grid() -> None:
    k, unseeded = 2000, Streams(0)
    generators = [unseeded.noise(0, client) for client in range(N)]
    sums = torch.rand(N, k, dtype=torch.float64)
    mechanism = GaussianMechanism(clip=0.3, noise_multiplier=1.7, batch=11)
    sent = mechanism.release(sums, generators).messages
    assert on_grid(sent, OwnNoise().grid(mechanism))
    assert not on_grid(sent, 4 * mechanism.grid)
    shared = SharedNoise(CorrelatedGaussian.calibrated(0.3, 11, 1.7, N, f=1), 1)
    sent = shared.correlated.privatize(sums, generators, unseeded.pair)
    assert on_grid(sent, shared.grid(mechanism))
    server = ServerNoise(unseeded)
    mean = server.at_server(mechanism, sums / 11, 0, lambda stack: stack.mean(0))
    places = mean * N / server.grid(mechanism)  # n is public: the division is post-processing
    assert (places - places.round()).abs().max() < 1e-6
    counts = AdaptiveClip(noise_std=2.5)
    norms = [np.array([0.1, 0.4])] * N
    shares = counts.shares(norms, 0.3, 8, generators)  # a batch of a power of two divides exactly
    assert on_grid(torch.from_numpy(shares), counts.grid / 8)
    assert not on_grid(torch.from_numpy(shares), counts.grid)


def test_clients_rounds_and_labels_never_meet() -> None:
    """Also among very many streams: their first 128 bits are all different."""
    streams = Streams(0)
    own = {streams.noise(t, c).bytes(16) for t, c in itertools.product(range(20), range(20))}
    own |= {streams.inclusion(t, c).bytes(16) for t, c in itertools.product(range(20), range(20))}
    pairs = itertools.product(itertools.combinations(range(12), 2), range(10))
    own |= {streams.pair(i, j, t).bytes(16) for (i, j), t in pairs}
    assert len(own) == 400 + 400 + 660
