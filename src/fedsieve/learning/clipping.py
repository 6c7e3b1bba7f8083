"""How a vector is shortened, as a factor that depends on its norm alone.

Flat clipping (Abadi et al., "Deep Learning with Differential Privacy", CCS 2016) and automatic
clipping (Bu, Wang, Zha, Karypis, "Automatic Clipping", NeurIPS 2023):

    flat:       g <- g min(1, C / |g|)
    automatic:  g <- g C / (|g| + gamma)

After either, no norm exceeds C. The automatic one lengthens short gradients too, so that C and the
learning rate become one setting; gamma > 0 keeps the smallest gradients small.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from torch import Tensor

Clipping = Literal["flat", "automatic"]
"""The forms by name."""


@dataclass(frozen=True)
class Clip:
    """Clipping to a norm.

    Args:
        norm: C, finite and > 0.
        form: "flat" or "automatic".
        gamma: Of the automatic form, finite and > 0; the published value is 0.01.

    Raises:
        ValueError: An argument outside these ranges.

    Example:
        >>> import torch
        >>> Clip(1.0).factors(torch.tensor([0.0, 0.5, 4.0]))
        tensor([1.0000, 1.0000, 0.2500])
        >>> Clip(1.0, "automatic").factors(torch.tensor([0.0, 0.5, 4.0])).round(decimals=2)
        tensor([100.0000,   1.9600,   0.2500])
    """

    norm: float
    form: Clipping = "flat"
    gamma: float = 0.01

    def __post_init__(self) -> None:
        for name in ("norm", "gamma"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name}={value} must be > 0 and finite")
        if self.form not in get_args(Clipping):
            raise ValueError(f"form={self.form!r} is not one of {', '.join(get_args(Clipping))}")

    def factors(self, norms: Tensor) -> Tensor:
        """What vectors of these finite norms are multiplied by."""
        if self.form == "automatic":
            return self.norm / (norms + self.gamma)
        # a zero norm divides to infinity, which the minimum turns into 1
        return (self.norm / norms).clamp_(max=1.0)
