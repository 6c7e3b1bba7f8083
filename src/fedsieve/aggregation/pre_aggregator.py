"""Pre-aggregators: public recipes that mix the messages before a rule sees them.

A pre-aggregator replaces the stack X by Y = M X, with M read off the Gram G. A rule of inner
products then works on M G M^T, and its weights w on Y are the weights M^T w on X: nothing of size k
is mixed. Chains multiply the M's. One that clips has the origin as a further row of the Gram.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Flag, auto
from typing import ClassVar, Self, overload

import numpy as np
import torch
from torch import Tensor

from fedsieve.aggregation._coordinatewise import Coordinatewise
from fedsieve.aggregation._door import FloatArray, Rows
from fedsieve.aggregation._gram import (
    GramRule,
    PointRule,
    Products,
    gram,
    origin,
)
from fedsieve.aggregation._mixing import mixed_rows, squared_lengths
from fedsieve.aggregation._threads import added
from fedsieve.aggregation.facts import Facts
from fedsieve.aggregation.rule import Rule, of_round


class Reads(Flag):
    """What a mixing is read off."""

    NOTHING = 0
    DISTANCES = auto()  # between messages
    NORMS = auto()  # the origin is the first of the further points; alone: no distance counts


class PreAggregator(ABC):
    """A mixing of the stack; ``pre >> rule`` is a rule, ``pre >> pre`` a pre-aggregator.

    A composition with a Gram rule is a Gram rule, unless the mixing refers to the origin. It
    assumes the f of its rule. Client weights go along: a mixing gives the rows that it makes their
    shares, equal ones for equal weights.
    """

    reads: ClassVar[Reads] = Reads.DISTANCES
    resizes: ClassVar[bool] = False  # whether it does no more than change the rows' lengths
    lacks: ClassVar[Facts] = Facts.NONE

    @property
    def facts(self) -> Facts:
        """What every rule behind it keeps, if it has it."""
        return ~self.lacks

    @abstractmethod
    def breakdown(self, n: int) -> int:
        """Largest number of Byzantine clients for which the mixing is defined with n clients."""

    def withstands(self, f: int) -> bool:
        """Whether it was told of so many Byzantine clients, if it is told at all."""
        return getattr(self, "f", f) >= f

    @abstractmethod
    def check(self, n: int) -> None:
        """Refuse settings that are not legal with n clients.

        Raises:
            ValueError: With the nearest legal value.
        """

    @abstractmethod
    def kappa(self, n: int, kappa: float) -> float | None:
        """Robustness coefficient of this followed by a rule of coefficient ``kappa``."""

    def rows(self, n: int) -> int:
        """How many rows it makes of n messages."""
        return n

    @property
    def gathers(self) -> int:
        """How many times the share of f messages any f of its rows can hold, at most."""
        return 1

    def for_round(self, seed: int) -> Self:
        """This with the public draws of one round, where it draws."""
        return of_round(self, seed, None)

    @abstractmethod
    def mixing(self, seen: Products) -> tuple[FloatArray, FloatArray | None]:
        """M, with rows that sum to 1, and the shares of the rows of M X.

        Args:
            seen: Inner products of the m usable messages and further points.

        Returns:
            M, (rows, m) or, if further points take part, (rows, m + points).
        """

    def apply(self, seen: Products) -> tuple[FloatArray, Products]:
        """M on messages and points, which stay as they are, and what is seen afterwards."""
        M, share = self.mixing(seen)
        a = seen.points
        whole = np.zeros((len(M) + a, seen.m + a))
        whole[: len(M), : M.shape[1]] = M
        whole[len(M) :, seen.m :] = np.eye(a)
        return whole, replace(seen, G=whole @ seen.G @ whole.T, share=share)

    @overload
    def __rshift__(self, then: GramRule) -> GramRule | MixedPointRule: ...
    @overload
    def __rshift__(self, then: Rule) -> Rule: ...
    @overload
    def __rshift__(self, then: PreAggregator) -> PreAggregator: ...
    def __rshift__(self, then: Rule | PreAggregator) -> Rule | PreAggregator:
        """This first, ``then`` on what it mixed."""
        if isinstance(then, Mixed):
            return Chain(self, then.pre) >> then.rule
        if isinstance(then, PreAggregator):
            return Chain(self, then)
        if isinstance(then, GramRule) and Reads.NORMS not in self.reads:
            return MixedGramRule(then.f, self, then)
        if isinstance(then, GramRule | PointRule):
            return MixedPointRule(then.f, self, then)
        return MixedRule(then.f, self, then) if isinstance(then, Rule) else NotImplemented


@dataclass(frozen=True, repr=False)
class Chain(PreAggregator):
    """One pre-aggregator after another; made by ``first >> second``."""

    first: PreAggregator
    second: PreAggregator

    def __repr__(self) -> str:
        return f"{self.first!r} >> {self.second!r}"

    @property
    def reads(self) -> Reads:  # type: ignore[override]
        """What either reads; norms of mixed rows are read off their distances."""
        mixed = Reads.NORMS in self.second.reads and not self.first.resizes
        return self.first.reads | self.second.reads | (Reads.DISTANCES if mixed else Reads.NOTHING)

    @property
    def resizes(self) -> bool:  # type: ignore[override]
        """Whether both do."""
        return self.first.resizes and self.second.resizes

    @property
    def facts(self) -> Facts:
        """What both keep."""
        return self.first.facts & self.second.facts

    def breakdown(self, n: int) -> int:
        """What both allow."""
        return min(self.first.breakdown(n), self.second.breakdown(self.first.rows(n)))

    def withstands(self, f: int) -> bool:
        """Whether both were."""
        return self.first.withstands(f) and self.second.withstands(f)

    def check(self, n: int) -> None:
        """Refuse what either refuses."""
        self.first.check(n)
        self.second.check(self.first.rows(n))

    def kappa(self, n: int, kappa: float) -> float | None:
        """The first one's coefficient for a rule that has the second one's."""
        inner = self.second.kappa(self.first.rows(n), kappa)
        return None if inner is None else self.first.kappa(n, inner)

    def rows(self, n: int) -> int:
        """What the second makes of the first's."""
        return self.second.rows(self.first.rows(n))

    @property
    def gathers(self) -> int:
        """The product of both."""
        return self.first.gathers * self.second.gathers

    def for_round(self, seed: int) -> Self:
        """Both with the round's draws."""
        return replace(self, first=self.first.for_round(seed), second=self.second.for_round(seed))

    def mixing(self, seen: Products) -> tuple[FloatArray, FloatArray | None]:
        """The product of both mixings."""
        M, between = self.first.apply(seen)
        N, after = self.second.apply(between)
        return (N @ M)[: after.m], after.share


@dataclass(frozen=True, repr=False)
class Mixed(Rule):
    """What compositions ``pre >> rule`` have in common."""

    pre: PreAggregator
    rule: Rule

    def __repr__(self) -> str:
        return f"{self.pre!r} >> {self.rule!r}"

    @property
    def facts(self) -> Facts:
        """What both have; a mixing that is told of a smaller f brings Byzantine rows to all."""
        found = self.pre.facts & self.rule.facts
        return found if self.pre.withstands(self.rule.f) else found & ~Facts.ROBUST

    @property
    def remembers(self) -> bool:
        """Whether the rule does."""
        return self.rule.remembers

    def for_round(self, seed: int, previous: Tensor | None = None) -> Self:
        """Both with the round's draws and memory."""
        pre, rule = self.pre.for_round(seed), self.rule.for_round(seed, previous)
        return replace(self, pre=pre, rule=rule)

    def breakdown(self, n: int) -> int:
        """What both allow."""
        return min(self.pre.breakdown(n), self.rule.breakdown(self.pre.rows(n)))

    def _reach(self) -> float:
        return self.rule._reach()

    def _unit(self) -> float | None:
        return self.rule._unit()

    def check(self, n: int) -> None:
        """Refuse what either refuses."""
        self.pre.check(n)
        super().check(n)
        self.rule._check_pivot(n)
        self.rule._unnumbered().check(self.pre.rows(n))

    def weight_limit(self, n: int) -> float:
        """The rule's, for the rows that are made of n messages."""
        return self.rule.weight_limit(self.pre.rows(n))

    def kappa(self, n: int) -> float | None:
        """The pre-aggregator's coefficient for this rule; none where it is told of a smaller f."""
        if not self.pre.withstands(self.rule.f):
            return None
        inner = self.rule.kappa(self.pre.rows(n))
        return None if inner is None else self.pre.kappa(n, inner)


@dataclass(frozen=True, repr=False)
class MixedRule(Mixed):
    """A rule that reads coordinates on mixed messages; made by ``pre >> rule``."""

    def _combine(self, rows: Rows, *, explain: bool) -> tuple[Tensor, FloatArray | None]:
        M, share = self._mixing(rows, [rows])
        blockwise = None
        if isinstance(self.rule, Coordinatewise):  # block by block, whether or not it is explained
            blockwise = self.rule._reduce_mixed(M, rows.data, self.rule.f - rows.removed, share)
            if not explain:
                return blockwise, None
        mixed = rows.mixed(mixed_rows(M, rows.data), share)
        vector, shares = self.rule._combine(mixed, explain=explain)
        return vector if blockwise is None else blockwise, None if shares is None else shares @ M

    def _mixing(self, rows: Rows, parts: Iterable[Rows]) -> tuple[FloatArray, FloatArray | None]:
        """What the m messages are multiplied by, and the shares of what comes out.

        Args:
            rows: The messages.
            parts: The same, all columns or block by block.
        """
        m, reads = len(rows.data), self.pre.reads
        normed = Reads.NORMS in reads
        if Reads.DISTANCES in reads:
            G = added(gram(part, origin(part) if normed else None) for part in parts)
        elif normed:  # about the origin; what is not read stays 0
            squares = added(squared_lengths(part.data, part.scale) for part in parts)
            G = np.diag(np.append(squares, 0.0))
        else:
            G = np.zeros((m, m))
        M, after = self.pre.apply(Products(G, int(normed), rows.removed, rows.share, rows.scale))
        return M[: after.m, :m], after.share  # the origin adds nothing


@dataclass(frozen=True, repr=False)
class MixedGramRule(Mixed, GramRule):
    """A Gram rule on mixed messages that are never computed; made by ``pre >> rule``."""

    rule: GramRule

    def _at(self, scale: float) -> MixedGramRule:
        return replace(self, rule=self.rule._at(scale))

    def _solve(self, G: FloatArray, removed: int, share: FloatArray | None) -> FloatArray:
        M, after = self.pre.apply(Products(G, removed=removed, share=share))
        return self.rule._solve(after.G, removed, after.share) @ M


@dataclass(frozen=True, repr=False)
class MixedPointRule(Mixed, PointRule):
    """Mixing, or a rule, that refers to further points; made by ``pre >> rule``."""

    rule: GramRule | PointRule

    @property
    def about_point(self) -> bool:  # type: ignore[override]
        """Yes, unless distances between messages count, which need the row of median norm."""
        if Reads.DISTANCES in self.pre.reads:
            return False
        return (
            self.rule.about_point if isinstance(self.rule, PointRule) else not self.rule.reads_gram
        )

    def _points(self, rows: Rows) -> Tensor:
        points = [origin(rows)] if Reads.NORMS in self.pre.reads else []
        if isinstance(self.rule, PointRule):
            points.append(self.rule._points(rows))
        return torch.cat(points)

    def _place(self, seen: Products) -> FloatArray:
        M, after = self.pre.apply(seen)
        m, own = after.m, 1 if Reads.NORMS in self.pre.reads else 0  # the mixing's own point
        w = np.zeros(len(M))
        if isinstance(self.rule, PointRule):
            others = np.delete(np.arange(len(M)), m) if own else np.arange(len(M))
            G = after.G[np.ix_(others, others)]
            w[others] = self.rule._place(replace(after, G=G, points=after.points - own))
        else:
            w[:m] = self.rule._at(after.scale)._solve(after.G[:m, :m], after.removed, after.share)
        return w @ M
