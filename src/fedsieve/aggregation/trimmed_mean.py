"""The coordinatewise trimmed mean.

Yin, Chen, Ramchandran, Bartlett, "Byzantine-robust distributed learning: towards optimal
statistical rates", ICML 2018. With x_(1) <= ... <= x_(n) the sorted values of one coordinate,

    R(x) = (x_(f+1) + ... + x_(n-f)) / (n - 2f).

The kept values are added up; subtracting the extremes from a total would lose them by cancellation.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fedsieve.aggregation._coordinatewise import Window, trimmed
from fedsieve.aggregation._sorting import Ranks
from fedsieve.registry import register


@register("rule", "trimmed-mean", paper='Yin et al., "Byzantine-robust distributed learning", 2018')
@dataclass(frozen=True)
class TrimmedMean(Window):
    """Coordinatewise trimmed mean: drops the f largest and f smallest values, averages the rest.

    With client weights, each end loses the largest share of the weight that f clients can hold,
    the value at the border in part; equal weights give the plain rule.

    Args:
        f: Number of Byzantine clients, 2f < n.

    Example:
        >>> import torch
        >>> TrimmedMean(f=1)(torch.tensor([[1.0], [2.0], [3.0], [4.0], [1e30]]))
        tensor([3.])
    """

    def kappa(self, n: int) -> float | None:
        """6f/(n - 2f) * (1 + f/(n - 2f)) (Allouah et al., "Fixing by mixing", 2023)."""
        self.check(n)
        ratio = self.f / (n - 2 * self.f)
        return 6 * ratio * (1 + ratio)

    def _ranks(self, m: int, f: int) -> Ranks:  # noqa: ARG002
        return Ranks(f)

    def _weigh(self, values: Tensor, mass: Tensor, trim: float) -> Tensor:  # noqa: ARG002
        return trimmed(mass, trim, 1 - trim)
