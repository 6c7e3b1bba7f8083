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
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import comb
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedsieve._arguments import instance, integer
from fedsieve.aggregation._door import TooManyFaultyClients, as_tensor, check_stack
from fedsieve.aggregation.rule import Rule

Stack = TypeVar("Stack", Tensor, NDArray[np.floating])


@dataclass(frozen=True)
class Hierarchical:
    """A rule applied in a tree of random buckets: time linear in n, and a stated tolerance.

    The tree is as low as ``size`` allows, and its buckets are as even as they can be. A bucket with
    more than f unusable rows, or unusable results below it, is itself an unusable row one level up.

    Args:
        rule: Aggregates every bucket, with f Byzantine rows per bucket.
        size: Largest number of rows in a bucket, >= 2.

    Raises:
        ValueError: ``size`` is not an integer >= 2, or at the first use the rule does not allow its
            f in the smallest bucket.

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

    def __call__(self, stack: Stack, rng: np.random.Generator) -> Stack:
        """The aggregate of a stack, of the stack's kind, dtype and device.

        Args:
            stack: One message per row, (n, k) float32 or float64, tensor or array; never modified.
            rng: Deals the messages into buckets. The clients must not be able to foresee it.

        Raises:
            ValueError: Wrong shape or dtype, or a bucket is too small for the rule.
            TooManyFaultyClients: More than f of the root's children are unusable.
        """
        X = as_tensor(stack)
        check_stack(X)
        self.check(len(X))
        deal = torch.from_numpy(rng.permutation(len(X))).to(X.device)
        *inner, _ = self.levels(len(X))
        level: list[Tensor] | None = None
        for buckets in inner:
            rows = deal.tensor_split(buckets) if level is None else _grouped(level, buckets)
            level = [self._survive(X[part] if level is None else part) for part in rows]
        vector = self.rule(X[deal] if level is None else torch.stack(level))
        return vector if isinstance(stack, Tensor) else vector.numpy()

    def levels(self, n: int) -> list[int]:
        """Number of buckets of every level, the last one 1."""
        depth = 1
        while self.size**depth < n:
            depth += 1
        branches = 2
        while branches**depth < n:
            branches += 1
        counts = []
        for _ in range(depth):
            n = -(-n // branches)
            counts.append(n)
        return counts

    def check(self, n: int) -> None:
        """Refuse a tree with a bucket that is too small for the rule's f.

        Raises:
            ValueError: With the size of that bucket and the largest legal f.
        """
        for count in self.levels(n):
            self.rule.check(n // count)
            n = count

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
            ValueError: ``byzantine`` is out of range, or a bucket too small for the rule.
        """
        if not 0 <= byzantine <= n:
            raise ValueError(f"byzantine={byzantine} must be between 0 and n={n}")
        if byzantine <= self.tolerance(n):
            return 0.0
        f, counts = self.rule.f, self.levels(n)
        largest = -(-n // counts[0])
        lost = sum(
            comb(byzantine, j) * comb(n - byzantine, largest - j) for j in range(f + 1, largest + 1)
        )
        p = lost / comb(n, largest)
        for below, count in pairwise(counts):
            p = min(comb(-(-below // count), f + 1) * p ** (f + 1), 1.0)
        return p

    def _survive(self, bucket: Tensor) -> Tensor:
        """The bucket's aggregate, or an unusable row."""
        try:
            return self.rule(bucket)
        except TooManyFaultyClients:
            return bucket.new_full((bucket.shape[1],), torch.nan)


def _grouped(level: list[Tensor], buckets: int) -> list[Tensor]:
    return list(torch.stack(level).tensor_split(buckets))
