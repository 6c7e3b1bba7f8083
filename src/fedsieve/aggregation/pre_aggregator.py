"""Pre-aggregators: public recipes that mix the messages before a rule sees them.

A pre-aggregator replaces the stack X by Y = M X, with M read off the Gram G. A Gram rule then works
on M G M^T, and its weights w on Y are the weights M^T w on X: nothing of size k is mixed. Chains
multiply the M's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import overload

import torch
from torch import Tensor

from fedsieve.aggregation._door import FloatArray, Rows
from fedsieve.aggregation._gram import GramRule, gram
from fedsieve.aggregation.rule import Rule


class PreAggregator(ABC):
    """A mixing of the stack; ``pre >> rule`` is a rule, ``pre >> pre`` a pre-aggregator.

    A composition with a Gram rule is a Gram rule. It assumes the f of its rule, and gives row i of
    the mixed stack the weight of client i.
    """

    @abstractmethod
    def breakdown(self, n: int) -> int:
        """Largest number of Byzantine clients for which the mixing is defined with n clients."""

    @abstractmethod
    def check(self, n: int) -> None:
        """Refuse settings that are not legal with n clients.

        Raises:
            ValueError: With the nearest legal value.
        """

    @abstractmethod
    def kappa(self, n: int, kappa: float) -> float | None:
        """Robustness coefficient of this followed by a rule of coefficient ``kappa``."""

    @abstractmethod
    def mixing(self, G: FloatArray, removed: int = 0) -> FloatArray:
        """The matrix M with rows that sum to 1.

        Args:
            G: Inner products of the usable messages, (m, m), centred by any common vector.
            removed: How many unusable messages, all of them Byzantine, there were besides.
        """

    @overload
    def __rshift__(self, then: GramRule) -> GramRule: ...
    @overload
    def __rshift__(self, then: Rule) -> Rule: ...
    @overload
    def __rshift__(self, then: PreAggregator) -> PreAggregator: ...
    def __rshift__(self, then: Rule | PreAggregator) -> Rule | PreAggregator:
        """This first, ``then`` on what it mixed."""
        if isinstance(then, MixedRule | MixedGramRule):
            return Chain(self, then.pre) >> then.rule
        if isinstance(then, PreAggregator):
            return Chain(self, then)
        if isinstance(then, GramRule):
            return MixedGramRule(then.f, self, then)
        return MixedRule(then.f, self, then)


@dataclass(frozen=True, repr=False)
class Chain(PreAggregator):
    """One pre-aggregator after another; made by ``first >> second``."""

    first: PreAggregator
    second: PreAggregator

    def __repr__(self) -> str:
        return f"{self.first!r} >> {self.second!r}"

    def breakdown(self, n: int) -> int:
        """What both allow."""
        return min(self.first.breakdown(n), self.second.breakdown(n))

    def check(self, n: int) -> None:
        """Refuse what either refuses."""
        self.first.check(n)
        self.second.check(n)

    def kappa(self, n: int, kappa: float) -> float | None:
        """The first one's coefficient for a rule that has the second one's."""
        inner = self.second.kappa(n, kappa)
        return None if inner is None else self.first.kappa(n, inner)

    def mixing(self, G: FloatArray, removed: int = 0) -> FloatArray:
        """The product of both mixings."""
        M = self.first.mixing(G, removed)
        return self.second.mixing(M @ G @ M.T, removed) @ M


@dataclass(frozen=True, repr=False)
class MixedRule(Rule):
    """A coordinatewise rule on mixed messages; made by ``pre >> rule``."""

    pre: PreAggregator
    rule: Rule

    def __repr__(self) -> str:
        return f"{self.pre!r} >> {self.rule!r}"

    def breakdown(self, n: int) -> int:
        """What both allow."""
        return min(self.pre.breakdown(n), self.rule.breakdown(n))

    def kappa(self, n: int) -> float | None:
        """The pre-aggregator's coefficient for this rule."""
        inner = self.rule.kappa(n)
        return None if inner is None else self.pre.kappa(n, inner)

    def _combine(self, rows: Rows, *, explain: bool) -> tuple[Tensor, FloatArray | None]:
        M = self.pre.mixing(gram(rows), rows.removed)
        mixed = replace(rows, data=torch.from_numpy(M).to(rows.data) @ rows.data)
        vector, shares = self.rule._combine(mixed, explain=explain)
        return vector, None if shares is None else shares @ M


@dataclass(frozen=True, repr=False)
class MixedGramRule(GramRule):
    """A Gram rule on mixed messages that are never computed; made by ``pre >> rule``."""

    pre: PreAggregator
    rule: GramRule

    def __repr__(self) -> str:
        return f"{self.pre!r} >> {self.rule!r}"

    def breakdown(self, n: int) -> int:
        """What both allow."""
        return min(self.pre.breakdown(n), self.rule.breakdown(n))

    def kappa(self, n: int) -> float | None:
        """The pre-aggregator's coefficient for this rule."""
        inner = self.rule.kappa(n)
        return None if inner is None else self.pre.kappa(n, inner)

    def _solve(self, G: FloatArray, removed: int, share: FloatArray | None) -> FloatArray:
        M = self.pre.mixing(G, removed)
        return self.rule._solve(M @ G @ M.T, removed, share) @ M
