"""A budget, and whether what a client has spent stays within it: the arithmetic of both ledgers."""

from __future__ import annotations

from dataclasses import dataclass

from fedsieve.privacy._charges import Charge, Spent
from fedsieve.privacy.accounting import compose
from fedsieve.privacy.calibration import max_steps
from fedsieve.privacy.guarantee import (
    Event,
    Guarantee,
    Law,
    Relation,
    Sampling,
    Unit,
    check_epsilon,
    check_events,
    check_target,
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
        law: Of the noise of every release.
        sampling: How records come to the steps; a charge counts epochs where it is by epochs.

    Raises:
        ValueError: An argument out of range.
    """

    limit: float | None
    delta: float
    relation: Relation
    unit: Unit
    law: Law = "gaussian"
    sampling: Sampling = "poisson"

    def __post_init__(self) -> None:
        check_target(self.delta, self.relation, self.unit)
        check_events([self.event((1.0, 1.0, 1))], self.relation)
        if self.limit is not None:
            check_epsilon(self.limit, "limit")

    def guarantee(self, spent: Spent) -> Guarantee:
        """What holds after these charges."""
        events = [self.event(charge) for charge in spent]
        return compose(events, self.delta, self.relation, self.unit)

    def event(self, charge: Charge) -> Event:
        """What a charge stands for.

        Raises:
            ValueError: It is impossible.
        """
        q, sigma, steps = charge
        return Event(sigma, q, steps, self.law, self.sampling)

    def refuse_excess(self, spent: Spent, whose: str) -> None:
        """Refuse charges that exceed the limit.

        Args:
            spent: Everything, the new charge included.
            whose: Name of the one who would spend it, for the message.

        Raises:
            BudgetExceededError: They do.
        """
        if self.limit is None or self._fits(spent, self.limit):
            return
        would = self.guarantee(spent).epsilon
        raise BudgetExceededError(
            f"{whose} would reach epsilon={would:.4f} at delta={self.delta:g}, more than "
            f"limit={self.limit:g}; nothing was released"
        )

    def _fits(self, spent: Spent, limit: float) -> bool:
        if len(spent) == 1:  # the usual case: one look-up a round
            ((q, sigma, steps),) = spent
            delta, relation = self.delta, self.relation
            return steps <= max_steps(limit, sigma, q, delta, relation, self.law, self.sampling)
        return self.guarantee(spent).epsilon <= limit
