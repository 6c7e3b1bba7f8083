"""The coordinatewise trimmed mean.

Yin, Chen, Ramchandran, Bartlett, "Byzantine-robust distributed learning: towards optimal
statistical rates", ICML 2018. With x_(1) <= ... <= x_(n) the sorted values of one coordinate,

    R(x) = (x_(f+1) + ... + x_(n-f)) / (n - 2f).

The kept values are added up; subtracting the extremes from a total would lose them by cancellation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedsieve.aggregation._door import FloatArray, Rows
from fedsieve.aggregation._sorting import ranked, separate
from fedsieve.aggregation.rule import Rule, largest_share, minority
from fedsieve.registry import register

BLOCK = 1 << 18  # entries sorted at a time with client weights, which need float64 masses beside


@register("rule", "trimmed-mean", paper='Yin et al., "Byzantine-robust distributed learning", 2018')
@dataclass(frozen=True)
class TrimmedMean(Rule):
    """Coordinatewise trimmed mean: drops the f largest and f smallest values, averages the rest.

    With client weights, each end loses the largest share of the weight that f clients can hold,
    the value at the border in part; equal weights give the plain rule.

    Args:
        f: Number of Byzantine clients, 2f < n.

    Example:
        >>> TrimmedMean(f=1)(torch.tensor([[1.0], [2.0], [3.0], [4.0], [1e30]]))
        tensor([3.])
    """

    def breakdown(self, n: int) -> int:
        """2f < n."""
        return minority(n)

    def kappa(self, n: int) -> float | None:
        """6f/(n - 2f) * (1 + f/(n - 2f)) (Allouah et al., "Fixing by mixing", 2023)."""
        self.check(n)
        ratio = self.f / (n - 2 * self.f)
        return 6 * ratio * (1 + ratio)

    def _combine(self, rows: Rows, *, explain: bool) -> tuple[Tensor, FloatArray | None]:
        f = self.f - rows.removed
        if rows.share is not None:
            return _by_mass(rows.data, rows.share, f)
        return _by_count(rows.data, f, explain=explain)


def _by_count(X: Tensor, f: int, *, explain: bool) -> tuple[Tensor, FloatArray | None]:
    n, k = X.shape
    mean, shares = X.new_empty(k), np.zeros(n)
    for part in separate(X, f):
        w = X.new_zeros(len(part.values))
        w[part.kept] = 1 / (n - 2 * f)
        mean[part.columns] = w @ part.values
        if explain:
            middle, block = part.values[part.kept], X[:, part.columns]
            inside = (block >= middle.amin(dim=0)) & (block <= middle.amax(dim=0))
            # equal values at the border share what is kept of them
            shares += (inside / inside.sum(dim=0)).sum(dim=1, dtype=torch.float64).cpu().numpy()
    return mean, shares / k if explain else None


def _by_mass(X: Tensor, share: FloatArray, f: int) -> tuple[Tensor, FloatArray]:
    n, k = X.shape
    trim = largest_share(share, n, f)
    mass = torch.from_numpy(share).to(X.device)
    mean, shares = X.new_empty(k), np.zeros(n)
    for start in range(0, k, width := max(BLOCK // n, 1)):
        block = X[:, start : start + width]
        order = ranked(block)
        values = block.gather(0, order)
        reached = mass[order].cumsum(dim=0).clamp(trim, 1 - trim)
        before = torch.cat([torch.full_like(reached[:1], trim), reached[:-1]])
        kept = (reached - before) / (1 - 2 * trim)
        mean[start : start + width] = (kept * values).sum(dim=0).to(X.dtype)
        shares += torch.zeros_like(kept).scatter_(0, order, kept).sum(dim=1).cpu().numpy()
    return mean, shares / k
