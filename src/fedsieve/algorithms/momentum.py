"""Heavy-ball momentum at the client, kept in R^k.

It is applied to what the mechanism has already released, so it is free post-processing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fedsieve.algorithms.form import Tensors
from fedsieve.algorithms.parts import Parts
from fedsieve.compression.projections import carry
from fedsieve.learning.layout import Layout, Subspace


def heavy_ball(memory: Tensors, rows: Sequence[int], gradient: Tensor, beta: float) -> Tensor:
    """m_i <- beta m_i + (1 - beta) g_i for the rows that take part; returns their m_i (m, k)."""
    held = memory["momentum"]
    if list(rows) == list(range(held.shape[0])):
        return held.mul_(beta).add_(gradient, alpha=1 - beta)
    index = torch.tensor(list(rows), device=held.device)
    updated = held.index_select(0, index).mul_(beta).add_(gradient, alpha=1 - beta)
    held.index_copy_(0, index, updated)
    return updated


def at_rest(parts: Parts, theta: Tensor) -> Tensors:
    """m_i = 0 for every client, on the device of theta."""
    return {"momentum": torch.zeros(parts.n, parts.k, device=theta.device)}


def carry_momentum(memory: Tensors, layout: Layout, old: Subspace, new: Subspace) -> None:
    """m_i <- P_new P_old^T m_i for every client, when the round changes the projection."""
    memory["momentum"].copy_(carry(layout, old, new, memory["momentum"]))
