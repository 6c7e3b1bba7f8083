"""The result of an arena: each rule against each attack, the mean over the seeds, and the worst."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from fedsieve.experiments.arena.cell import DONE, FAILED, UNDEFINED, Score
from fedsieve.experiments.arena.plan import NO_ATTACK, Cell, Plan

PENDING = "pending"
"""The state of what has not been played yet."""


@dataclass(frozen=True)
class Entry:
    """One place of the table: a rule against an attack with f malicious clients.

    Args:
        values: Test accuracy of each seed (R^2 for a regression); empty unless all are done.
        state: ``done`` if all seeds are, else the first that is not.
        reason: Why it is not done.
        skipped: Rounds without a step of the server, over all seeds.
        seconds: Time of all seeds.
    """

    values: tuple[float, ...] = ()
    state: str = PENDING
    reason: str = ""
    skipped: int = 0
    seconds: float = 0.0

    @property
    def mean(self) -> float:
        """Mean over the seeds; nan without values."""
        return sum(self.values) / len(self.values) if self.values else math.nan

    @property
    def error(self) -> float | None:
        """Standard error of the mean, s / sqrt(m); ``None`` for a single seed.

        Example:
            >>> Entry((0.25, 0.75), "done").error
            0.25
        """
        m = len(self.values)
        if m < 2:
            return None
        variance = sum((value - self.mean) ** 2 for value in self.values) / (m - 1)
        return math.sqrt(variance / m)


@dataclass(frozen=True)
class Worst:
    """What a rule's most damaging attack leaves.

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
    task: str = "classification"

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
        return Entry(values, DONE, "", skipped, seconds)

    def worst(self, rule: str, f: int) -> Worst | None:
        """The attack that leaves the rule least, ``None`` if none has been played.

        A result that is no number is worse than all numbers.
        """
        against = {a: self.entries[rule, a, f] for a in self.plan.attacks or (NO_ATTACK,)}
        played = {a: entry for a, entry in against.items() if entry.state == DONE}
        if not played:
            return None

        def quality(attack: str) -> float:
            mean = played[attack].mean
            return -math.inf if math.isnan(mean) else mean

        least = min(played, key=quality)
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
