"""Heavy-ball momentum at the client, kept in R^k, or at the server.

It is applied to what the mechanism has already released, so it is free post-processing. Where the
server adds the noise, nothing has been released at a client; and where clients that share noise
come and go, a client's momentum would hold terms whose other halves are elsewhere. In both cases
the server keeps the momentum, of the aggregate; under the mean, with everybody there, that is the
mean of the clients' momenta.
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
    """m_i <- beta m_i + (1 - beta) g_i for the rows that take part; returns their m_i (m, k).

    g_i where the server keeps the momentum.
    """
    held = memory.get("momentum")
    if held is None:
        return gradient
    if list(rows) == list(range(held.shape[0])):
        return held.mul_(beta).add_(gradient, alpha=1 - beta)
    index = torch.tensor(list(rows), device=held.device)
    updated = held.index_select(0, index).mul_(beta).add_(gradient, alpha=1 - beta)
    held.index_copy_(0, index, updated)
    return updated


def at_rest(parts: Parts, theta: Tensor) -> tuple[Tensors, Tensors]:
    """M = 0, on the device of theta: what the server remembers, and what the clients do."""
    trust = parts.gradient.noise.trust
    if trust == "central" or (trust == "distributed" and not parts.everybody):
        return {"momentum": torch.zeros_like(theta)}, {}
    return {}, {"momentum": torch.zeros(parts.n, parts.k, device=theta.device)}


def carry_momentum(memory: Tensors, layout: Layout, old: Subspace, new: Subspace) -> None:
    """m_i <- P_new P_old^T m_i for every client that has one, when the projection changes."""
    if (held := memory.get("momentum")) is not None:
        held.copy_(carry(layout, old, new, held))
