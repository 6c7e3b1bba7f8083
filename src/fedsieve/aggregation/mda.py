"""MDA, minimum-diameter averaging.

El Mhamdi, Guerraoui, Guirguis, Hoang, Rouault, "Genuinely distributed Byzantine machine learning",
PODC 2020. The mean of the n - f messages of smallest diameter:

    S* = argmin_{|S| = n-f} max_{i,j in S} ||x_i - x_j||,    R(x) = mean_{i in S*} x_i.

Not by trying all subsets: a diameter t is possible if f messages cover all pairs farther apart than
t, which is decided by branching on the message with most such pairs: either it is left out, or all
its far partners are. The least possible t is found by bisection over the distances.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import comb

import numpy as np

from fedsieve.aggregation._door import FloatArray
from fedsieve.aggregation._gram import GramRule, squared_distances
from fedsieve.aggregation.rule import largest_share, minority
from fedsieve.registry import register

LARGEST_SEARCH = 1 << 15  # branches; some 20 microseconds each
NEAR_TIE = 1e-12  # relative difference below which two distances, or sums of them, are equal


@register("rule", "mda", paper='El Mhamdi et al., "Genuinely distributed Byzantine ML", 2020')
@dataclass(frozen=True)
class MDA(GramRule):
    """Minimum-diameter averaging: the mean of the n - f messages that lie closest together.

    Exact. Of several subsets of the same diameter it takes the one of least summed squared
    distances, then the one that leaves out later clients. A client of weight 0 counts as absent;
    other client weights weigh the mean.

    Args:
        f: Number of Byzantine clients, 2f < n, and 2^f or n over f at most 32768.

    Example:
        >>> import torch
        >>> MDA(f=1)(torch.tensor([[1.0], [2.0], [3.0], [2.0], [99.0]]))
        tensor([2.])
    """

    def breakdown(self, n: int) -> int:
        """2f < n."""
        return minority(n)

    def check(self, n: int) -> None:
        """Refuse an f that is too large for n clients, or for an exact search."""
        super().check(n)
        if min(1 << self.f, comb(n, self.f)) > LARGEST_SEARCH:
            raise ValueError(
                f"{self!r} with n={n} would search up to min(2^{self.f}, C({n}, {self.f})) "
                f"subsets, allowed are {LARGEST_SEARCH}: f up to {LARGEST_SEARCH.bit_length() - 1},"
                " or another rule, such as CAF or NNM >> TrimmedMean"
            )

    def kappa(self, n: int) -> float | None:  # noqa: ARG002
        """0 for f = 0; otherwise none is known to us."""
        return 0.0 if self.f == 0 else None

    def _solve(self, G: FloatArray, removed: int, share: FloatArray | None) -> FloatArray:
        n, f = len(G), self.f - removed
        p = np.full(n, 1 / n) if share is None else share
        largest_share(share, n, f)
        present = np.flatnonzero(p > 0)
        kept = present[closest(squared_distances(G)[np.ix_(present, present)], f)]
        w = np.zeros(n)
        w[kept] = p[kept] / p[kept].sum()
        return w


def closest(D: FloatArray, f: int) -> list[int]:
    """The n - f rows of smallest diameter, given squared distances (n, n)."""
    n = len(D)
    values = np.unique(D)
    low, high = 0, len(values) - 1
    while low < high:
        middle = (low + high) // 2
        if next(_covers(_far(D, values[middle]), 0, f), None) is None:
            low = middle + 1
        else:
            high = middle
    best, least = list(range(n)), np.inf
    for cover in _covers(_far(D, values[low]), 0, f):
        out, later = cover, n - 1
        while out.bit_count() < f:  # only equal distances leave a choice
            out |= 1 << later
            later -= 1
        kept = [i for i in range(n) if not out >> i & 1]
        total = float(D[np.ix_(kept, kept)].sum())
        tie = total <= least * (1 + NEAR_TIE) and kept < best
        if total < least * (1 - NEAR_TIE) or tie:
            best, least = kept, total
    return best


def _far(D: FloatArray, t: float) -> list[int]:
    """Per row, as bits, which rows are farther than t."""
    packed = np.packbits(t * (1 + NEAR_TIE) < D, axis=1, bitorder="little")
    return [int.from_bytes(row.tobytes(), "little") for row in packed]


def _covers(far: list[int], out: int, budget: int) -> Iterator[int]:
    """Sets of at most so many further rows, as bits, that leave no far pair; each minimal one."""
    degrees = [0 if out >> i & 1 else (row & ~out).bit_count() for i, row in enumerate(far)]
    most = max(degrees)
    if most == 0:
        yield out
    elif sum(degrees) <= 2 * budget * most:  # a row covers at most that many pairs
        row = degrees.index(most)
        yield from _covers(far, out | 1 << row, budget - 1)
        if most <= budget:
            yield from _covers(far, out | far[row], budget - most)
