"""The result of an arena: each rule against each attack, the mean over the seeds, and the worst.

A backdoor leaves the accuracy alone and is judged by its attack success rate besides. So there are
two worst attacks: that of least accuracy, and the backdoor that succeeds most.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from fedsieve.experiments.arena.cell import DONE, FAILED, UNDEFINED, Score
from fedsieve.experiments.arena.plan import NO_ATTACK, Cell, Plan

if TYPE_CHECKING:
    from fedsieve.learning.data import Task

PENDING = "pending"
"""The state of what has not been played yet."""


@dataclass(frozen=True)
class Sample:
    """A figure's value for each seed.

    Args:
        values: One per seed; empty where there is no such figure.
    """

    values: tuple[float, ...] = ()

    @property
    def mean(self) -> float:
        """Mean over the seeds; nan without values."""
        return sum(self.values) / len(self.values) if self.values else math.nan

    @property
    def error(self) -> float | None:
        """Standard error of the mean, s / sqrt(m); ``None`` for a single seed.

        Example:
            >>> Sample((0.25, 0.75)).error
            0.25
        """
        m = len(self.values)
        if m < 2:
            return None
        variance = sum((value - self.mean) ** 2 for value in self.values) / (m - 1)
        return math.sqrt(variance / m)


@dataclass(frozen=True)
class Entry(Sample):
    """One place of the table: a rule against an attack with f malicious clients.

    Args:
        values: Test accuracy of each seed (R^2 for a regression); empty unless all are done.
        state: ``done`` if all seeds are, else the first that is not.
        reason: Why it is not done.
        skipped: Rounds without a step of the server, over all seeds.
        seconds: Time of all seeds.
        success: Attack success rate of each seed; empty unless the attack is a backdoor.
    """

    state: str = PENDING
    reason: str = ""
    skipped: int = 0
    seconds: float = 0.0
    success: Sample = Sample()

    def sample(self, *, success: bool) -> Sample:
        """The attack success rate, or the accuracy."""
        return self.success if success else self


@dataclass(frozen=True)
class Worst:
    """The place of a rule's most damaging attack.

    Args:
        attack: The attack.
        entry: Its place.
        bound: Whether an attack has failed or is still to come, so that the truth may be worse.
    """

    attack: str
    entry: Entry
    bound: bool


@dataclass(frozen=True)
class Board:
    """All results of an arena.

    Args:
        plan: What is played.
        scores: What has been played so far.
        task: "classification" or "regression".
    """

    plan: Plan
    scores: Mapping[Cell, Score]
    task: Task = "classification"

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules, in the order of the plan."""
        return self.plan.setup.arena.rules

    @property
    def fs(self) -> tuple[int, ...]:
        """Numbers of malicious clients, ascending."""
        return tuple(sorted(self.plan.setup.arena.byzantine))

    @property
    def seeds(self) -> int:
        """How many runs each figure is the mean of."""
        return len(self.plan.setup.arena.seeds)

    @property
    def clients(self) -> int:
        """Clients per round."""
        return self.plan.setup.federation.cohort

    @cached_property
    def entries(self) -> dict[tuple[str, str, int], Entry]:
        """(Rule, attack, f) -> its place."""
        return {
            (rule, attack, f): self._entry(rule, attack, f)
            for f in self.fs
            for rule in self.rules
            for attack in self.plan.columns
        }

    def _entry(self, rule: str, attack: str, f: int) -> Entry:
        played = attack if f else NO_ATTACK  # nobody can attack
        seeds = self.plan.setup.arena.seeds
        scores = [self.scores.get(Cell(rule, played, f, seed), Score(PENDING)) for seed in seeds]
        seconds = sum(s.summary["seconds_total"] for s in scores if s.summary)
        skipped = sum(s.skipped for s in scores)
        missing = [s for s in scores if s.state != DONE]
        if missing:
            return Entry((), missing[0].state, missing[0].reason, skipped, seconds)
        values = tuple(math.nan if s.quality is None else float(s.quality) for s in scores)
        rates = tuple(float(s.success) for s in scores if s.success is not None)
        success = Sample(rates if len(rates) == len(scores) else ())
        if not f:
            success = self.unattacked(rule, attack, f)
        return Entry(values, DONE, "", skipped, seconds, success)

    def unattacked(self, rule: str, backdoor: str, f: int) -> Sample:
        """The backdoor's success rate where nobody attacks; empty unless all seeds told it."""
        seeds = self.plan.setup.arena.seeds
        quiet = [self.scores.get(Cell(rule, NO_ATTACK, f, seed), Score(PENDING)) for seed in seeds]
        rates = [(score.unattacked or {}).get(backdoor) for score in quiet]
        told = tuple(rate for rate in rates if rate is not None)
        return Sample(told if len(told) == len(seeds) else ())

    @cached_property
    def backdoors(self) -> tuple[str, ...]:
        """The attacks that are backdoors: those that told how often they succeed."""
        told = {cell.attack for cell, score in self.scores.items() if score.success is not None}
        return tuple(attack for attack in self.plan.attacks if attack in told)

    def worst(self, rule: str, f: int, *, success: bool = False) -> Worst | None:
        """The most damaging attack, ``None`` if none has been played.

        Args:
            rule: The rule.
            f: Number of malicious clients.
            success: Ask for the backdoor of the largest success rate, instead of the attack, of
                any kind, that leaves the least accuracy. An accuracy that is no number is less than
                all numbers.
        """
        attacks = self.backdoors if success else self.plan.attacks or (NO_ATTACK,)
        against = {a: self.entries[rule, a, f] for a in attacks}
        played = {
            attack: entry
            for attack, entry in against.items()
            if entry.state == DONE and entry.sample(success=success).values
        }
        if not played:
            return None

        def left(attack: str) -> float:
            mean = played[attack].sample(success=success).mean
            return -math.inf if math.isnan(mean) else -mean if success else mean

        least = min(played, key=left)
        bound = any(entry.state in (FAILED, PENDING) for entry in against.values())
        return Worst(least, played[least], bound)

    def unplayed(self) -> dict[str, list[str]]:
        """State and reason -> the places that have no figures because of it."""
        told: dict[str, list[str]] = {}
        for (rule, attack, f), entry in self.entries.items():
            if entry.state in (UNDEFINED, FAILED):
                where = told.setdefault(f"{entry.state}: {entry.reason}", [])
                where.append(f"{rule} / {attack} / f={f}")
        return told

    @property
    def private(self) -> Score | None:
        """The run with the largest epsilon, ``None`` without differential privacy."""
        spent = [s for s in self.scores.values() if s.summary and s.summary["epsilon"] is not None]
        return max(spent, key=lambda s: s.summary["epsilon"] if s.summary else 0.0, default=None)
