"""How a vector is shortened, as a factor that depends on its norm alone.

Flat clipping (Abadi et al., "Deep Learning with Differential Privacy", CCS 2016) and automatic
clipping (Bu, Wang, Zha, Karypis, "Automatic Clipping", NeurIPS 2023):

    flat:       g <- g min(1, C / |g|)
    automatic:  g <- g C / (|g| + gamma)
    per-layer:  g_l <- g_l min(1, C_l / |g_l|) for every layer l,    sum_l C_l^2 = C^2

After each of them, no norm exceeds C. The automatic one lengthens short gradients too, so that C
and the learning rate become one setting; gamma > 0 keeps the smallest gradients small. Per layer
(McMahan, Ramage, Talwar, Zhang, "Learning Differentially Private Recurrent Language Models", ICLR
2018) a layer with large gradients does not shorten the others; the bounds C_l add up in quadrature
and depend on public sizes alone, so the noise and its accounting stay those of C.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from torch import Tensor

Clipping = Literal["flat", "automatic", "per-layer"]
"""The forms by name."""

Split = Literal["equal", "size"]
"""How C^2 is dealt to the layers: the same to each, or by how many numbers a layer sends."""


@dataclass(frozen=True)
class Clip:
    """Clipping to a norm.

    Args:
        norm: C, finite and > 0.
        form: "flat", "automatic" or "per-layer".
        gamma: Of the automatic form, finite and > 0; the published value is 0.01.
        split: Of the per-layer form: "equal" or "size".

    Raises:
        ValueError: An argument outside these ranges.

    Example:
        >>> import torch
        >>> Clip(1.0).factors(torch.tensor([0.0, 0.5, 4.0]))
        tensor([1.0000, 1.0000, 0.2500])
        >>> Clip(1.0, "automatic").factors(torch.tensor([0.0, 0.5, 4.0])).round(decimals=2)
        tensor([100.0000,   1.9600,   0.2500])
        >>> [round(one.norm, 3) for one in Clip(1.0, "per-layer", split="size").over([300, 100])]
        [0.866, 0.5]
    """

    norm: float
    form: Clipping = "flat"
    gamma: float = 0.01
    split: Split = "equal"

    def __post_init__(self) -> None:
        for name in ("norm", "gamma"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name}={value} must be > 0 and finite")
        if self.form not in get_args(Clipping):
            raise ValueError(f"form={self.form!r} is not one of {', '.join(get_args(Clipping))}")
        if self.split not in get_args(Split):
            raise ValueError(f"split={self.split!r} is not one of {', '.join(get_args(Split))}")

    def over(self, widths: Sequence[int]) -> tuple[Clip, ...]:
        """The clip of each layer, of the per-layer form.

        Args:
            widths: How many numbers of a message belong to each layer, all >= 1.

        Returns:
            Flat clips whose norms C_l are C when added in quadrature.
        """
        shares = [width if self.split == "size" else 1 for width in widths]
        return tuple(Clip(self.norm * math.sqrt(share / sum(shares))) for share in shares)

    def factors(self, norms: Tensor) -> Tensor:
        """What vectors (per layer: the parts of one layer) of these norms are multiplied by."""
        if self.form == "automatic":
            return self.norm / (norms + self.gamma)
        # a zero norm divides to infinity, which the minimum turns into 1
        return (self.norm / norms).clamp_(max=1.0)
