"""Rules that treat every coordinate alike and on its own.

Such a rule needs no more than a block of columns at a time. The median and its kin average, per
coordinate, the values in a window of the sorted ones; which window is all they differ in.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedsieve.aggregation._compiled import kernel, reduce_columns
from fedsieve.aggregation._door import ClientWeights, FloatArray, Rows, check_stack
from fedsieve.aggregation._mixing import mixed_blocks
from fedsieve.aggregation._sorting import (
    Ranks,
    blocks,
    mean_of,
    mean_of_finite,
    ranked,
    sorted_blocks,
)
from fedsieve.aggregation._threads import in_threads
from fedsieve.aggregation.rule import Rule, largest_share, minority

ROUNDING = 1e-9  # sums of shares closer than this are taken as equal
MASSES = 8  # a block with client weights needs that many times its memory for float64 masses


@dataclass(frozen=True)
class Coordinatewise(Rule):
    """A rule whose coordinates do not know each other."""

    @abstractmethod
    def _reduce(self, X: Tensor, f: int, share: FloatArray | None) -> Tensor:
        """The aggregate (w,) of usable rows (m, w), f of which may still be Byzantine."""

    @abstractmethod
    def _kept(self, X: Tensor, f: int, share: FloatArray | None) -> FloatArray:
        """The number of coordinates, up to w in all, in which each of the m rows was kept."""

    def _threads(self, entries: int) -> bool:  # noqa: ARG002
        """Whether threads may share out the columns of a stack of so many entries."""
        return False

    def _reduce_mixed(self, M: FloatArray, X: Tensor, f: int, share: FloatArray | None) -> Tensor:
        """The aggregate of the rows M X, which are made and reduced block by block."""
        n, k = X.shape
        out, X = X.new_empty(k), X.contiguous()

        def work(start: int, stop: int) -> None:
            for columns, block in mixed_blocks(M, X, start, stop):
                out[columns] = self._reduce(block, f, share)

        if X.device.type == "cpu" and share is None and self._threads(X.numel()):
            in_threads(work, k, n)
        else:
            work(0, k)
        return out

    def _combine(self, rows: Rows, *, explain: bool) -> tuple[Tensor, FloatArray | None]:
        f, k = self.f - rows.removed, rows.data.shape[1]
        vector = self._reduce(rows.data, f, rows.share)
        return vector, self._kept(rows.data, f, rows.share) / k if explain else None


@dataclass(frozen=True)
class Window(Coordinatewise):
    """A rule that averages a window of the sorted values of every coordinate."""

    def breakdown(self, n: int) -> int:
        """2f < n."""
        return minority(n)

    def _threads(self, entries: int) -> bool:
        """Yes; the kernel that reduces their blocks is loaded once, if they are worth it."""
        kernel(reduce_columns, entries)
        return True

    def _vector(self, stack: Tensor, weights: ClientWeights | None) -> tuple[Tensor, int]:
        """Reads the stack once, if it can: a float32 row is usable as soon as it is finite.

        No two lengths of such rows are as far apart as what is called gross.
        """
        if weights is None and stack.dtype == torch.float32:
            check_stack(stack)
            self.check(len(stack))
            if (vector := mean_of_finite(self._ranks(len(stack), self.f), stack)) is not None:
                return vector, 0
        return super()._vector(stack, weights)

    @abstractmethod
    def _ranks(self, m: int, f: int) -> Ranks:
        """Which of m sorted values count where all clients count the same."""

    @abstractmethod
    def _weigh(self, values: Tensor, mass: Tensor, trim: float) -> Tensor:
        """Weights of sorted values, (m, w) float64, each column summing to 1.

        Args:
            values: Sorted columns (m, w).
            mass: The shares of the clients they come from, (m, w) float64.
            trim: Share of the weight that f clients can hold, < 1/2.
        """

    def _reduce(self, X: Tensor, f: int, share: FloatArray | None) -> Tensor:
        if share is None:
            return mean_of(self._ranks(len(X), f), X)
        return self._reduce_shares(X, share, largest_share(share, len(X), f))

    def _reduce_shares(self, X: Tensor, share: FloatArray, trim: float) -> Tensor:
        """`_reduce` where f clients can hold the share ``trim``."""
        mass = torch.from_numpy(share).to(X.device)
        out = X.new_empty(X.shape[1])
        for columns in _narrow(X):
            order = ranked(X[:, columns])
            values = X[:, columns].gather(0, order)
            out[columns] = (self._weigh(values, mass[order], trim) * values).sum(dim=0).to(X.dtype)
        return out

    def _kept(self, X: Tensor, f: int, share: FloatArray | None) -> FloatArray:
        n = len(X)
        kept = np.zeros(n)
        if share is None:
            trim = f / n
            for columns, values in sorted_blocks(X):
                mass = torch.full_like(values, 1 / n, dtype=torch.float64)
                used = self._weigh(values, mass, trim) > ROUNDING
                low = torch.where(used, values, torch.inf).amin(dim=0)
                high = torch.where(used, values, -torch.inf).amax(dim=0)
                inside = (X[:, columns] >= low) & (X[:, columns] <= high)
                # equal values at the border share what is kept of them
                kept += (inside.double() / inside.sum(dim=0)).sum(dim=1).cpu().numpy()
            return kept
        return self._kept_shares(X, share, largest_share(share, n, f))

    def _kept_shares(self, X: Tensor, share: FloatArray, trim: float) -> FloatArray:
        """`_kept` where f clients can hold the share ``trim``."""
        kept = np.zeros(len(X))
        mass = torch.from_numpy(share).to(X.device)
        for columns in _narrow(X):
            order = ranked(X[:, columns])
            weights = self._weigh(X[:, columns].gather(0, order), mass[order], trim)
            kept += torch.zeros_like(weights).scatter_(0, order, weights).sum(dim=1).cpu().numpy()
        return kept


def trimmed(mass: Tensor, low: float, high: float) -> Tensor:
    """What is left of masses laid end to end on [0, 1] when all but [low, high] is cut off."""
    reached = mass.cumsum(dim=0)
    # what is left by rounding would count, times a far value
    reached = torch.where(reached < low + ROUNDING, low, reached)
    reached = torch.where(reached > high - ROUNDING, high, reached)
    before = torch.cat([torch.full_like(reached[:1], low), reached[:-1]])
    return (reached - before) / (high - low)


def middle(mass: Tensor) -> Tensor:
    """Weights of the weighted median: half for the value that reaches 1/2, half for the next above.

    Both are the same value, unless the masses up to one value are exactly one half.
    """
    reached = mass.cumsum(dim=0)
    before = reached - mass
    low = (reached >= 0.5 - ROUNDING) & (before < 0.5 - ROUNDING)
    high = (reached > 0.5 + ROUNDING) & (before <= 0.5 + ROUNDING)
    return (low.double() + high.double()) / 2


def _narrow(X: Tensor) -> list[slice]:
    n, k = X.shape
    return list(blocks(0, k, n * MASSES, on_cpu=X.device.type == "cpu"))


def sign_votes(X: Tensor, share: FloatArray | None) -> Tensor:
    """sum_i sign(x_ij), (k,) float64; with shares p_i a client's vote counts m p_i."""
    m, k = X.shape
    votes = X.new_empty(k, dtype=torch.float64)
    weight = None if share is None else torch.from_numpy(m * share).to(X.device)
    for columns in _narrow(X):
        signs = X[:, columns].sign()
        votes[columns] = signs.sum(dim=0) if weight is None else weight @ signs.double()
    return votes
