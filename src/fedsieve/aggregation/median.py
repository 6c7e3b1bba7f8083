"""The coordinatewise median.

Yin, Chen, Ramchandran, Bartlett, "Byzantine-robust distributed learning: towards optimal
statistical rates", ICML 2018. With x_(1) <= ... <= x_(n) the sorted values of one coordinate,

    R(x) = x_((n+1)/2)                       for odd n,
    R(x) = (x_(n/2) + x_(n/2+1)) / 2         for even n.

Taking the lower one of the two, as some libraries do, would pull every coordinate down.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fedsieve.aggregation._coordinatewise import Window, middle
from fedsieve.aggregation._sorting import Ranks
from fedsieve.aggregation.facts import Facts
from fedsieve.registry import register


@register("rule", "median", paper='Yin et al., "Byzantine-robust distributed learning", ICML 2018')
@dataclass(frozen=True)
class Median(Window):
    """Coordinatewise median: the middle value, or the average of the two middle ones.

    With client weights the weighted median: the value at which half of the weight is reached, or
    the average of two values with exactly half of the weight on either side.

    Args:
        f: Number of Byzantine clients, 2f < n. The median itself does not depend on it; unusable
            rows are counted against it.

    Example:
        >>> import torch
        >>> Median(f=1)(torch.tensor([[1.0], [2.0], [3.0], [10.0]]))
        tensor([2.5000])
    """

    lacks: ClassVar[Facts] = Facts.AVERAGES

    def kappa(self, n: int) -> float | None:
        """4 (1 + f/(n - 2f))^2 (Allouah et al., "Fixing by mixing", 2023)."""
        self.check(n)
        return 4 * (1 + self.f / (n - 2 * self.f)) ** 2

    def _ranks(self, m: int, f: int) -> Ranks:  # noqa: ARG002
        return Ranks((m - 1) // 2)

    def _weigh(self, values: Tensor, mass: Tensor, trim: float) -> Tensor:  # noqa: ARG002
        return middle(mass)
