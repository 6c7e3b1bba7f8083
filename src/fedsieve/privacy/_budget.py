"""A budget, and whether what a client has spent stays within it: the arithmetic of both ledgers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from fedsieve.privacy._digits import rounded_up
from fedsieve.privacy._search import largest
from fedsieve.privacy.accounting import compose
from fedsieve.privacy.calibration import MOST_STEPS, max_steps
from fedsieve.privacy.guarantee import (
    Event,
    Guarantee,
    Relation,
    Unit,
    check_epsilon,
    check_target,
    merge,
)


class BudgetExceededError(RuntimeError):
    """The release would spend more than the limit; it was neither recorded nor may it be sent."""


@dataclass(frozen=True)
class Budget:
    """The statement that the releases of one data set are made under.

    Args:
        limit: Epsilon that must not be exceeded, > 0; ``None``: none.
        delta: In (0, 1).
        relation: Neighbouring relation.
        unit: What is protected.

    Raises:
        ValueError: An argument out of range.
    """

    limit: float | None
    delta: float
    relation: Relation
    unit: Unit

    def __post_init__(self) -> None:
        check_target(self.delta, self.relation, self.unit)
        if self.limit is not None:
            check_epsilon(self.limit, "limit")

    def guarantee(self, spent: Iterable[Event]) -> Guarantee:
        """What holds after these releases."""
        return compose(spent, self.delta, self.relation, self.unit)

    def refuse_excess(self, spent: Iterable[Event], whose: str) -> None:
        """Refuse releases that exceed the limit.

        Args:
            spent: Everything, the new release included.
            whose: Name of the one who would spend it, for the message.

        Raises:
            BudgetExceededError: They do.
        """
        events = merge(spent)
        if self.limit is None or self._fits(events, self.limit):
            return
        would = rounded_up(self.guarantee(events).epsilon)
        raise BudgetExceededError(
            f"{whose} would reach epsilon={would} at delta={self.delta:g}, more than "
            f"limit={self.limit:g}; nothing was released"
        )

    def left(self, spent: Iterable[Event], message: Event) -> int:
        """How many more messages of this kind fit, at most 10^9.

        Args:
            spent: What was released so far.
            message: What one message releases, at least one step.
        """
        if self.limit is None:
            return MOST_STEPS
        held, limit = merge(spent), self.limit

        def fits(messages: int) -> bool:
            more = replace(message, steps=messages * message.steps)
            return self._fits(merge([*held, more]), limit)

        return largest(fits, 0, self._steps(message, limit) // message.steps) if fits(0) else 0

    def _fits(self, events: tuple[Event, ...], limit: float) -> bool:
        if len(events) == 1:  # the usual case: one look-up a round
            return events[0].steps <= self._steps(events[0], limit)
        return self.guarantee(events).epsilon <= limit

    def _steps(self, e: Event, limit: float) -> int:
        """How many steps of this kind alone fit."""
        return max_steps(
            limit, e.noise_multiplier, e.sampling_rate, self.delta, self.relation,
            e.law, e.variance, e.sampling,
        )  # fmt: skip
