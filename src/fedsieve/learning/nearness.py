"""A loss that keeps local training near where it began.

With L the loss of the records, y the parameters and G those that training started from,

    alpha L(y) + (1 - alpha) D(y, G),    D = ||y - G||   or   D = 1 - <y, G> / (||y|| ||G||).

The first D has the gradient (y - G) / ||y - G||, taken as 0 at G; the second one

    (<y, G> y / ||y||^2 - G) / (||y|| ||G||).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

Distance = Literal["norm", "cosine"]
"""How far y is from G."""


@dataclass(frozen=True)
class Nearness:
    """The weights and the distance of such a loss.

    Args:
        alpha: Weight of the records' loss, in (0, 1].
        distance: ``norm`` or ``cosine``.

    Raises:
        ValueError: ``alpha`` lies outside (0, 1], or no distance has that name.

    Example:
        >>> y, G = torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2)
        >>> Nearness(0.5).gradient(y, G)
        tensor([[0.6000, 0.8000]])
    """

    alpha: float
    distance: Distance = "norm"

    def __post_init__(self) -> None:
        if not 0 < self.alpha <= 1:
            raise ValueError(f"alpha={self.alpha} must lie in (0, 1]")
        if self.distance not in get_args(Distance):
            allowed = ", ".join(get_args(Distance))
            raise ValueError(f"distance={self.distance!r} is not one of {allowed}")

    def blend(self, gradient: Tensor, away: Tensor) -> Tensor:
        """The gradient of the whole: that of L and that of D, in the same space."""
        return self.alpha * gradient + (1 - self.alpha) * away

    def gradient(self, y: Tensor, start: Tensor) -> Tensor:
        """The gradient of D at every row of ``y`` (m, d), which began at that of ``start``."""
        if self.distance == "norm":
            away = y - start
            return away / _lengths(away)
        size, began = _lengths(y), _lengths(start)
        along = (y * start).sum(dim=1, keepdim=True) / size**2
        return (along * y - start) / (size * began)


def _lengths(rows: Tensor) -> Tensor:
    """Norms (m, 1) of the rows, not quite 0: a zero row stays zero when divided by it."""
    tiny = math.sqrt(torch.finfo(rows.dtype).tiny)  # its square is a number as well
    lengths: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp_(min=tiny)
    return lengths
