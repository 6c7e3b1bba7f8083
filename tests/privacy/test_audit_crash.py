"""A run that dies between its noise and its checkpoint, and what its clients send when it goes on.

With a noise seed the very messages are sent again, and charged once: an observer of both runs has
learned nothing from the second. Without one everything is drawn anew, the noise that clients share
included, and charged again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fedsieve.algorithms.form import Broadcast, Cohort, Sent
from fedsieve.algorithms.trust import Noise, OwnNoise, SharedNoise
from fedsieve.privacy import CorrelatedGaussian, GaussianMechanism, IntegerMechanism, Ledger
from fedsieve.simulation.checkpoint import Checkpoint
from fedsieve.simulation.job import Job
from fedsieve.simulation.loop import Simulation

N, SAVED, DIES, ROUNDS = 6, 2, 4, 6
CLIENTS = range(N)
K = 37  # parameters of the fixture's network
GAUSSIAN = GaussianMechanism(clip=1.0, noise_multiplier=2.0, batch=8)
SHARED = CorrelatedGaussian.calibrated(1.0, 8, 2.0, N, 1)


class KilledError(Exception):
    """Instead of a signal that would end the tests, too."""


class Mortal(Simulation):
    """A simulation that notes what is sent, and dies once the messages of a round are out."""

    def __init__(self, job: Job, dies: int | None = None) -> None:
        super().__init__(job)
        self.dies = dies
        self.sent: dict[int, Tensor] = {}

    def _compute(self, broadcast: Broadcast, cohort: Cohort) -> Sent:
        sent = super()._compute(broadcast, cohort)
        self.sent[self.round] = sent.messages.clone()
        return sent

    def _exchange(self, *given: Any) -> dict[str, Any]:
        if self.round == self.dies:
            raise KilledError
        return super()._exchange(*given)


def died(job: Job) -> tuple[Mortal, Checkpoint]:
    """A run that died in round `DIES`, and its last checkpoint, of round `SAVED`."""
    with Mortal(job, DIES) as simulation:
        while True:
            if simulation.round == SAVED:
                saved = simulation.checkpoint()
                held = {name: tensor.clone() for name, tensor in saved.tensors.items()}
                checkpoint = replace(saved, tensors=held)
            try:
                simulation.step()
            except KilledError:
                return simulation, checkpoint


def resumed(job: Job, checkpoint: Checkpoint, journal: Path) -> Mortal:
    """The run that goes on from there, with the ledger as its journal has it."""
    ledger = Ledger.restore(checkpoint.facts["ledger"], journal)
    with Mortal(replace(job, ledger=ledger)) as simulation:
        simulation.restore(checkpoint)
        while simulation.round < ROUNDS:
            simulation.step()
    return simulation


FORMS = {
    "gaussian": {"mechanism": GAUSSIAN, "algorithm": "sieve"},
    "client": {"mechanism": replace(GAUSSIAN, unit="client", batch=1)},
    "integer": {"mechanism": IntegerMechanism(1.0, 2.0, 8, K)},
    "shared": {"mechanism": GAUSSIAN, "noise": SharedNoise(SHARED, 1)},
    "local steps": {"mechanism": GAUSSIAN, "algorithm": "fedavg", "steps": 2},
}


@pytest.fixture(params=FORMS)
def job_of(
    request: pytest.FixtureRequest, make_job: Callable[..., Job], tmp_path: Path
) -> Callable[[int | None], Job]:
    """A run of one form of noise with a journal, under a noise seed or none."""

    def make(noise_seed: int | None) -> Job:
        form = FORMS[request.param]
        unit = form["mechanism"].unit  # type: ignore[attr-defined]
        ledger = Ledger(
            1e-5,
            "add-remove",
            repeatable=noise_seed is not None,
            journal=tmp_path / "journal",
            unit=unit,
        )
        return make_job(rounds=ROUNDS, noise_seed=noise_seed, ledger=ledger, **form)

    return make


def releases(job: Job, rounds: int) -> dict[int, int]:
    """How often every client has released after so many rounds."""
    return dict.fromkeys(CLIENTS, job.steps * rounds)


def test_with_a_seed_the_same_messages_are_sent_again_and_charged_once(
    job_of: Callable[[int | None], Job], tmp_path: Path
) -> None:
    job = job_of(1)
    first, checkpoint = died(job)
    assert sorted(first.sent) == list(range(DIES + 1))
    again = resumed(job, checkpoint, tmp_path / "journal")
    for round_ in range(SAVED, DIES + 1):
        assert torch.equal(first.sent[round_], again.sent[round_])
    assert again.job.ledger is not None
    assert again.job.ledger.spent() == releases(job, ROUNDS)


def test_without_a_seed_nothing_is_drawn_twice_and_repeated_rounds_are_charged_again(
    job_of: Callable[[int | None], Job], tmp_path: Path
) -> None:
    """The difference of both messages holds two noises: as much as those of two other rounds.

    At least half of it; noise that was shared the same way twice would leave a seventh.
    """
    job = job_of(None)
    first, checkpoint = died(job)
    again = resumed(job, checkpoint, tmp_path / "journal")
    difference = first.sent[SAVED] - again.sent[SAVED]
    expected = math.sqrt(2) * noise_std(job)
    assert float(difference.double().std()) > expected / 2
    assert again.job.ledger is not None
    repeated = DIES + 1 - SAVED
    assert again.job.ledger.spent() == releases(job, ROUNDS + repeated)


@pytest.mark.parametrize("seed", [1, None])
@pytest.mark.parametrize("kept", [0.1, 0.9])
def test_a_journal_that_was_cut_in_a_line_counts_all_that_was_sent(
    job_of: Callable[[int | None], Job], tmp_path: Path, seed: int | None, kept: float
) -> None:
    """Even where the disk had promised the line, and its message was out."""
    job, path = job_of(seed), tmp_path / "journal"
    _, checkpoint = died(job)
    *whole, last = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(whole) + last[: int(kept * len(last))])
    ledger = resumed(job, checkpoint, path).job.ledger
    assert ledger is not None
    repeated = 0 if seed is not None else DIES + 1 - SAVED
    assert ledger.spent() == releases(job, ROUNDS + repeated)
    assert Ledger.restore(checkpoint.facts["ledger"], path).guarantee() == ledger.guarantee()


def noise_std(job: Job) -> float:
    """Of each number of a message (of an update: of its last step alone)."""
    gradient = job.algorithm.parts.gradient  # type: ignore[attr-defined]
    noise: Noise = gradient.noise
    if isinstance(noise, SharedNoise):
        std = SHARED.noise_std(N)
    else:
        assert isinstance(noise, OwnNoise)
        std = gradient.mechanism.noise_std
    return float(std * getattr(job.algorithm, "lr", 1.0) if job.steps > 1 else std * 0.1)
