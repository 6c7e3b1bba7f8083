"""Bucketing.

Karimireddy, He, Jaggi, "Byzantine-robust learning on heterogeneous datasets via bucketing", ICLR
2022. With a random permutation pi of the clients, row b of the mixed stack is

    y_b = (1/s) sum_{i = (b-1)s+1}^{bs} x_pi(i),    b = 1..ceil(n/s), the last one of those left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fedsieve._arguments import integer
from fedsieve.aggregation._door import FloatArray
from fedsieve.aggregation._gram import Products
from fedsieve.aggregation.facts import Facts
from fedsieve.aggregation.pre_aggregator import PreAggregator, Reads
from fedsieve.registry import register


@register("pre-aggregator", "bucketing", paper='Karimireddy et al., "via bucketing", ICLR 2022')
@dataclass(frozen=True)
class Bucketing(PreAggregator):
    """Bucketing: averages random groups of s messages, which makes honest ones more alike.

    A Byzantine client contaminates a whole bucket, so up to f of the ceil(n/s) buckets may be
    contaminated: the rule behind it keeps its f, and must be legal for ceil(n/s) rows. Within a
    bucket clients count by their weights. A bucket has the mean weight of its clients, not their
    sum, so that equal weights are no weights even where the last bucket is smaller; the rule behind
    judges whether f buckets weigh too much.

    Args:
        s: Messages in a bucket, >= 1.
        seed: Seed of the permutation, >= 0. A simulation draws one anew for every round; keep it
            from clients that could choose their messages by it.

    Raises:
        ValueError: ``s`` is not an integer >= 1, ``seed`` none >= 0.

    Example:
        >>> from fedsieve.aggregation import TrimmedMean
        >>> (Bucketing(s=2) >> TrimmedMean(f=1)).breakdown(10)
        2
    """

    s: int = 2
    seed: int = 0
    reads: ClassVar[Reads] = Reads.NOTHING
    lacks: ClassVar[Facts] = Facts.SYMMETRIC | Facts.AVERAGES

    def __post_init__(self) -> None:
        integer(self, "s", 1)
        integer(self, "seed")

    def breakdown(self, n: int) -> int:
        """Any number; what counts is the rule behind it."""
        return n

    def check(self, n: int) -> None:
        """Nothing is refused: a bucket of all messages is their mean."""

    def kappa(self, n: int, kappa: float) -> float | None:  # noqa: ARG002
        """None: what is known holds in expectation over the permutation."""
        return None

    def rows(self, n: int) -> int:
        """ceil(n/s)."""
        return -(-n // self.s)

    @property
    def gathers(self) -> int:
        """The s messages of a bucket may all be heavy ones."""
        return self.s

    def mixing(self, seen: Products) -> tuple[FloatArray, FloatArray | None]:
        """M_bi = 1/|b| for the messages i in bucket b, or p_i over the bucket's weight."""
        m = seen.m
        bucket = np.empty(m, dtype=np.intp)
        bucket[np.random.default_rng(self.seed).permutation(m)] = np.arange(m) // self.s
        members = (bucket == np.arange(self.rows(m))[:, None]).astype(np.float64)
        size = members.sum(axis=1, keepdims=True)
        if seen.share is None:
            return members / size, None
        weight = members @ seen.share
        share = weight / size[:, 0]
        return members * seen.share / weight[:, None], share / share.sum()
