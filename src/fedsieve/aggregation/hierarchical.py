"""Aggregation in a tree of buckets: linear in the number of clients, for cohorts of 10^5.

n messages are dealt at random into buckets of at most b, each bucket is aggregated by a rule that
withstands f of them, and so are the results, L levels up to one vector. A node is lost when more
than f of its children are.

*Whoever they are.* To lose a node of level l takes f + 1 lost nodes of level l - 1, hence
(f + 1)^L Byzantine clients to lose the root: fewer do no harm, wherever they sit.

*When they were chosen before the deal.* With F of n Byzantine, a leaf is lost with probability

    p_1 = P[Hypergeometric(n, F, b) > f],   then   p_l <= C(b, f+1) p_{l-1}^(f+1),

since bucket counts of a random permutation are negatively associated (Joag-Dev, Proschan, "Negative
association of random variables with applications", 1983), and so are increasing functions of
disjoint groups of them.

*Client weights.* A bucket weighs what its clients weigh on average, so that equal weights are none.
Both statements hold as long as no f rows of a bucket reach the share that the rule allows them
(`Rule.weight_limit`); a bucket where they do counts as lost. With m the size of the smallest bucket
and the limit 1/2, that is never where the largest weight is less than (m - f) / f of the smallest.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count, pairwise
from math import comb
from numbers import Integral
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedsieve._arguments import instance, integer
from fedsieve.aggregation._door import (
    ClientWeights,
    FloatArray,
    TooManyFaultyClients,
    as_tensor,
    check_stack,
    normalised,
)
from fedsieve.aggregation.facts import Facts
from fedsieve.aggregation.rule import Aggregation, Rule, parts_of

Stack = TypeVar("Stack", Tensor, NDArray[np.floating])


@dataclass(frozen=True)
class Hierarchical:
    """A rule applied in a tree of random buckets: time linear in n, and a stated tolerance.

    The tree is as low as ``size`` allows, and the buckets of a level differ by one row at most. A
    bucket with more than f unusable rows, or unusable results below it, is itself an unusable row
    one level up.

    Args:
        rule: Aggregates every bucket, with f Byzantine rows per bucket. One for f > 0 must have
            `Facts.ROBUST`, and trust no client's row: who sits there is up to the deal.
        size: Largest number of rows in a bucket, >= 2.

    Raises:
        ValueError: The rule is none of these, ``size`` is not an integer >= 2, or at the first use
            no tree has only buckets in which the rule allows its f.

    Example:
        >>> from fedsieve.aggregation import Median
        >>> tree = Hierarchical(Median(f=4), size=12)
        >>> tree.tolerance(100_000)
        3124
        >>> tree(torch.ones(1000, 2), np.random.default_rng(0))
        tensor([1., 1.])
    """

    rule: Rule
    size: int = 32

    def __post_init__(self) -> None:
        instance(self, "rule", Rule)
        integer(self, "size", 2)
        if self.rule.f > 0 and Facts.ROBUST not in self.rule.facts:
            raise ValueError(
                f"rule={self.rule!r} lets fewer than f + 1 rows of a bucket spoil it, so that no "
                "tree of it tolerates anything; allowed are rules with Facts.ROBUST, or f=0"
            )
        if _trusts_a_row(self.rule):
            raise ValueError(
                f"rule={self.rule!r} trusts the client in one row, where the deal may put anyone; "
                "allowed are rules without a pivot"
            )

    def __call__(
        self, stack: Stack, rng: np.random.Generator, weights: ClientWeights | None = None
    ) -> Stack:
        """The aggregate of a stack, of the stack's kind, dtype and device.

        Args:
            stack: One message per row, (n, k) float32 or float64, tensor or array; never modified.
            rng: Deals the messages into buckets. The clients must not be able to foresee it.
            weights: Public weights of the clients, (n,), finite and >= 0; ``None``: all equal. A
                client of weight 0 is absent.

        Raises:
            ValueError: Wrong shape or dtype, client weights for a rule that does not hear them, or
                no tree fits so many clients.
            TooManyFaultyClients: More than f of the root's children are unusable.
        """
        vector = self.aggregate(stack, rng, weights, explain=False).vector
        return vector if isinstance(stack, Tensor) else vector.numpy()

    def aggregate(
        self,
        stack: Tensor | NDArray[np.floating],
        rng: np.random.Generator,
        weights: ClientWeights | None = None,
        *,
        explain: bool = True,
    ) -> Aggregation:
        """The aggregate with the weight that each client got; arguments and errors as in a call.

        A client's weight is the product of the weights along its path to the root. For a rule of
        inner products the aggregate is the messages' sum under these weights; for a coordinatewise
        rule they are products of shares of coordinates. All clients below an unusable row are
        ``rejected``.

        Args:
            stack: As in a call.
            rng: As in a call.
            weights: As in a call.
            explain: Whether the clients' weights are wanted.
        """
        X = as_tensor(stack)
        check_stack(X)
        p = None if weights is None else normalised(weights, len(X))
        heard = np.arange(len(X)) if p is None else np.flatnonzero(p)
        counts = self.levels(len(heard))
        deal = heard[rng.permutation(len(heard))]
        share = None if p is None else p[deal]
        node = np.arange(len(deal))  # above each of the dealt clients, on the level reached so far
        told, lost = np.ones(len(deal)), np.zeros(len(deal), dtype=bool)
        level: Tensor | None = None
        for below, buckets in pairwise([len(deal), *counts]):
            parts = np.array_split(np.arange(below), buckets)
            found = []
            for part in parts:
                rows = (
                    X[torch.from_numpy(deal[part]).to(X.device)] if level is None else level[part]
                )
                given = None if share is None else share[part]
                found.append(self._bucket(rows, given, explain=explain, last=buckets == 1))
            level = torch.stack([vector for vector, _, _ in found])
            told *= np.concatenate([weights for _, weights, _ in found])[node]
            lost |= np.concatenate([unusable for _, _, unusable in found])[node]
            share = None if share is None else np.array([share[part].mean() for part in parts])
            node = np.repeat(np.arange(buckets), [len(part) for part in parts])[node]
        assert level is not None
        everyone = np.zeros(len(X))
        everyone[deal] = told
        return Aggregation(
            level[0], torch.from_numpy(everyone) if explain else None, int(lost.sum())
        )

    def levels(self, n: int) -> list[int]:
        """Number of buckets of every level, the last one 1.

        Raises:
            ValueError: No tree has only buckets that are large enough for the rule and no larger
                than ``size``; with the nearest n that have one.
        """
        least, size = self._least(), self.size
        depth = next(depth for depth in count(1) if size**depth >= n)
        if least**depth > n:
            allowed = f"n={least**depth}"
            if n >= least:  # then there are smaller trees, and with larger buckets a lower one
                size = next(size for size in count(size) if size ** (depth - 1) >= n)
                allowed += f", n={self.size ** (depth - 1)} or size >= {size}"
            raise ValueError(
                f"n={n} clients fit no tree of {self!r}, whose buckets have {least} to {self.size} "
                f"rows; the nearest allowed are {allowed}"
            )
        branches = next(branches for branches in count(2) if branches**depth >= n)
        counts = []
        for above in reversed(range(depth)):
            fewest, most = max(-(-n // size), least**above), min(n // least, size**above)
            n = min(max(-(-n // branches), fewest), most)
            counts.append(n)
        return counts

    def check(self, n: int) -> None:
        """Refuse a number of clients that fits no tree.

        Raises:
            ValueError: As `levels`, or a bucket is too large for the rule.
        """
        for below, buckets in pairwise([n, *self.levels(n)]):
            self.rule.check(-(-below // buckets))

    def tolerance(self, n: int) -> int:
        """Largest number of Byzantine clients that do no harm wherever they sit.

        (f + 1)^L - 1 with L levels: exact, one more in the worst places takes the root.
        """
        self.check(n)
        return int((self.rule.f + 1) ** len(self.levels(n))) - 1

    def failure(self, n: int, byzantine: int) -> float:
        """Upper bound on the probability that so many Byzantine clients take the root.

        They are chosen before the deal, and may know everything else.

        Args:
            n: Number of clients.
            byzantine: How many of them are Byzantine, 0 <= byzantine <= n.

        Raises:
            ValueError: ``byzantine`` is no integer or out of range, or n clients fit no tree.
        """
        if not isinstance(byzantine, Integral) or not 0 <= byzantine <= n:
            raise ValueError(f"byzantine={byzantine} must be an integer between 0 and n={n}")
        byzantine = int(byzantine)
        if byzantine <= self.tolerance(n):
            return 0.0
        f, counts = self.rule.f, self.levels(n)
        largest = -(-n // counts[0])
        lost = sum(
            comb(byzantine, j) * comb(n - byzantine, largest - j) for j in range(f + 1, largest + 1)
        )
        p = lost / comb(n, largest)
        for below, buckets in pairwise(counts):
            p = min(comb(-(-below // buckets), f + 1) * p ** (f + 1), 1.0)
        return p

    def _least(self) -> int:
        """The least number of rows that the rule allows its f in."""
        for m in range(1, self.size + 1):
            try:
                self.rule.check(m)
            except ValueError as error:
                refused = error
            else:
                return m
        raise ValueError(f"size={self.size} makes no bucket large enough: {refused}") from refused

    def _bucket(
        self, rows: Tensor, share: FloatArray | None, *, explain: bool, last: bool
    ) -> tuple[Tensor, FloatArray, NDArray[np.bool_]]:
        """Its aggregate, or an unusable row; the weights of its rows, and which were unusable."""
        told = np.zeros(len(rows))
        try:
            admitted = self.rule._admit(rows, share)
            vector, shares = self.rule._combine(admitted, explain=explain)
        except TooManyFaultyClients:
            if last:
                raise
            return rows.new_full((rows.shape[1],), torch.nan), told, np.ones(len(rows), dtype=bool)
        if shares is not None:
            told[admitted.usable] = shares
        return vector, told, ~admitted.usable


def _trusts_a_row(rule: Rule) -> bool:
    return hasattr(rule, "pivot") or any(map(_trusts_a_row, parts_of(rule).values()))
