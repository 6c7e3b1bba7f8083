"""Closed form of ``nn.Linear``: y = W a + b, one row per sample or a sequence of rows."""

from __future__ import annotations

from torch import Tensor, nn

from fedsieve.learning.layers._bilinear import of_tensors
from fedsieve.learning.layers._factors import Factor, Rows
from fedsieve.learning.layers._rank_one import RankOne


def linear(layer: nn.Linear, a: Tensor, delta: Tensor) -> dict[str, Factor]:
    """Weight: sum over rows of delta a^T; bias: sum over rows of delta."""
    if a.ndim == 2:
        bias = Rows(delta)
        factors: dict[str, Factor] = {"weight": RankOne(bias, Rows(a))}
    else:
        a, delta = a.flatten(1, -2), delta.flatten(1, -2)
        bias = Rows(delta.sum(1))
        factors = {"weight": of_tensors(delta.transpose(1, 2), a)}
    if layer.bias is not None:
        factors["bias"] = bias
    return factors
