"""MeaMed, the mean around the median.

Xie, Koyejo, Gupta, "Generalized Byzantine-tolerant SGD", 2018. With m the median of one coordinate
(the average of the two middle values for even n) and N the n - f values nearest to it,

    R(x) = (1/(n-f)) sum_{x in N} x.

Of two values equally far from the median, one on either side, the smaller one is taken; mixed ones
are often equally far, so that what rounding may leave between them does not count.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedsieve.aggregation._compiled import TIE
from fedsieve.aggregation._coordinatewise import Window, middle, trimmed
from fedsieve.aggregation._sorting import Ranks
from fedsieve.registry import register


@register("rule", "meamed", paper='Xie et al., "Generalized Byzantine-tolerant SGD", 2018')
@dataclass(frozen=True)
class MeaMed(Window):
    """Mean around the median: averages, per coordinate, the n - f values nearest to the median.

    With client weights, the values nearest to the weighted median that hold all but the largest
    share of the weight that f clients can hold; the farthest of them counts in part.

    Args:
        f: Number of Byzantine clients, 2f < n.

    Example:
        >>> import torch
        >>> MeaMed(f=1)(torch.tensor([[1.0], [2.0], [3.0], [10.0]]))
        tensor([2.])
    """

    def kappa(self, n: int) -> float | None:  # noqa: ARG002
        """0 for f = 0, where it is the mean; otherwise the literature has none."""
        return 0.0 if self.f == 0 else None

    def _ranks(self, m: int, f: int) -> Ranks:  # noqa: ARG002
        return Ranks(f, nearest=True)

    def _weigh(self, values: Tensor, mass: Tensor, trim: float) -> Tensor:
        values = values.double()
        median = (middle(mass) * values).sum(dim=0)
        distances = (values - median).abs()
        below = TIE * (values.abs() + median.abs()) * (values < median)  # of a tie they come first
        order = (distances - below).argsort(dim=0, stable=True)
        weights = trimmed(mass.gather(0, order), 0, 1 - trim)
        return torch.empty_like(weights).scatter_(0, order, weights)
