"""What the server draws in a round is known to an attacker only where that is granted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from fedsieve.aggregation import (
    CAF,
    Bucketing,
    CenteredClipping,
    DnC,
    Rule,
    SignGuard,
    TrimmedMean,
)
from fedsieve.poisoning import Knowledge, LineSearch, MessageAttack, Scene
from fedsieve.simulation.job import Job
from fedsieve.simulation.loop import Simulation

ROUNDS, N, CHEATS = 12, 15, (1, 4, 9)
DRAWING = [
    DnC(3, num_iters=1, b=3),
    Bucketing(2) >> TrimmedMean(3),
    Bucketing(2) >> CAF(3),
    SignGuard(3, fraction=0.1),
]


@dataclass(frozen=True)
class Recorder(MessageAttack):
    """Searches the shift that damages most, and notes how far it went."""

    sent: list[Tensor] = field(default_factory=list)
    seen: list[Scene] = field(default_factory=list)

    @property
    def knowledge(self) -> Knowledge:
        return Knowledge.UPDATES | Knowledge.RULE

    def craft(self, scene: Scene) -> Tensor:
        self.seen.append(scene)
        self.sent.append(LineSearch("mean").craft(scene))
        return self.sent[-1]


def played(
    make_job: Callable[..., Job], rule: Rule, knowledge: Knowledge
) -> tuple[Recorder, list[float]]:
    """A federation whose model hardly moves: every round is another draw for the same messages."""
    attack = Recorder()
    job = make_job(
        "dshb",
        clients=N,
        byzantine=CHEATS,
        attack=attack,
        rule=rule,
        rounds=ROUNDS,
        options={"lr": 1e-6, "momentum": 0.0},
        batch=20,  # all records: the same gradients in every round
    )
    with Simulation(replace(job, knowledge=knowledge)) as simulation:
        return attack, [simulation.step()["aggregation_error"] for _ in range(ROUNDS)]


@pytest.mark.parametrize("rule", DRAWING, ids=str)
def test_knowing_the_draws_changes_the_search_and_hurts_more(
    make_job: Callable[..., Job], rule: Any
) -> None:
    guessing, guessed = played(make_job, rule, Knowledge.NOTHING)
    knowing, known = played(make_job, rule, Knowledge.RANDOMNESS)
    changed = [not torch.equal(a, b) for a, b in zip(guessing.sent, knowing.sent, strict=True)]
    assert any(changed)
    assert sum(known) >= sum(guessed)


@pytest.mark.parametrize("rule", DRAWING[:3], ids=str)
def test_only_who_knows_foresees_the_aggregate(make_job: Callable[..., Job], rule: Any) -> None:
    def errors(knowledge: Knowledge) -> list[float]:
        attack, happened = played(make_job, rule, knowledge)
        foreseen = []
        for scene, rows in zip(attack.seen, attack.sent, strict=True):
            reached = scene.aggregate(torch.cat([scene.honest, rows]))
            foreseen.append(float((reached - scene.mean).norm()))
        return [abs(a - b) / max(happened) for a, b in zip(foreseen, happened, strict=True)]

    assert max(errors(Knowledge.RANDOMNESS)) < 1e-4
    assert max(errors(Knowledge.NOTHING)) > 0.01


def test_every_round_has_a_guess_of_its_own_that_is_not_the_truth(
    make_job: Callable[..., Job],
) -> None:
    used: list[int] = []

    @dataclass(frozen=True)
    class Noting(TrimmedMean):
        seed: int = 0

        def check(self, n: int) -> None:  # before every aggregate
            used.append(self.seed)
            super().check(n)

    played(make_job, Noting(3), Knowledge.NOTHING)
    assert len(set(used)) == 2 * ROUNDS
    used.clear()
    played(make_job, Noting(3), Knowledge.RANDOMNESS)
    assert len(set(used)) == ROUNDS


def test_a_rule_without_draws_is_asked_as_it_is(make_job: Callable[..., Job]) -> None:
    for rule in (TrimmedMean(3), CAF(3), CenteredClipping(3, tau=0.1, iterations=1)):
        (a, one), (b, two) = (
            played(make_job, rule, known) for known in (Knowledge.NOTHING, Knowledge.RANDOMNESS)
        )
        assert one == two
        assert all(torch.equal(x, y) for x, y in zip(a.sent, b.sent, strict=True))
