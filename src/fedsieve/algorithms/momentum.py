"""Heavy-ball momentum at the client, kept in R^k, or at the server.

It is applied to what the mechanism has already released, so it is free post-processing. Where the
server adds the noise, nothing has been released at a client; and where clients that share noise
come and go, a client's momentum would hold terms whose other halves are elsewhere. In both cases
the server keeps the momentum, of the aggregate; under the mean, with everybody there, that is the
mean of the clients' momenta.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fedsieve.algorithms.form import Tensors
from fedsieve.algorithms.parts import Parts
from fedsieve.compression.projections import carry
from fedsieve.learning.layout import Entries, InputBasis, LayerMap, Layout, Slot, Subspace

PROBES = 64
"""Coordinates that stand for all where a map has no layers."""

NOISE = "momentum_noise"
"""Name of the variances, per client, of the noise in each number of its momentum, (n,) float64."""


def heavy_ball(
    memory: Tensors, rows: Sequence[int], gradient: Tensor, beta: float, std: float | None = None
) -> Tensor:
    """m_i <- beta m_i + (1 - beta) g_i for the rows that take part; returns their m_i (m, k).

    g_i where the server keeps the momentum. ``std`` is that of the noise in each number of g_i;
    the variance in those of m_i is kept beside it.
    """
    held = memory.get("momentum")
    if held is None:
        return gradient
    everybody = list(rows) == list(range(held.shape[0]))
    index = torch.tensor(list(rows), device=held.device)
    if (noise := memory.get(NOISE)) is not None and std is not None:
        noise[index] = beta**2 * noise[index] + ((1 - beta) * std) ** 2
    if everybody:
        return held.mul_(beta).add_(gradient, alpha=1 - beta)
    updated = held.index_select(0, index).mul_(beta).add_(gradient, alpha=1 - beta)
    held.index_copy_(0, index, updated)
    return updated


def at_rest(parts: Parts, theta: Tensor) -> tuple[Tensors, Tensors]:
    """M = 0, on the device of theta: what the server remembers, and what the clients do."""
    trust = parts.gradient.noise.trust
    if trust == "central" or (trust == "distributed" and not parts.everybody):
        return {"momentum": torch.zeros_like(theta)}, {}
    memory = {"momentum": torch.zeros(parts.n, parts.k, device=theta.device)}
    if parts.gradient.mechanism is not None:
        memory[NOISE] = torch.zeros(parts.n, dtype=torch.float64, device=theta.device)
    return {}, memory


def carry_momentum(memory: Tensors, layout: Layout, old: Subspace, new: Subspace) -> None:
    """m_i <- P_new P_old^T m_i for every client that has one, when the projection changes."""
    if (held := memory.get("momentum")) is not None:
        held.copy_(carry(layout, old, new, held))
    if (noise := memory.get(NOISE)) is not None:
        noise *= carried(layout, old, new, noise.device)


def noise_in(memory: Tensors, rows: Sequence[int], std: float | None) -> float | None:
    """Standard deviation of the noise in each number of these clients' messages.

    Args:
        memory: The clients' memory, after `heavy_ball`.
        rows: The clients' rows.
        std: That of the noise in what they computed in this round.
    """
    if (noise := memory.get(NOISE)) is None:
        return std
    return math.sqrt(float(noise[torch.tensor(list(rows), device=noise.device)].mean()))


def carried(layout: Layout, old: Subspace, new: Subspace, device: torch.device) -> float:
    """Mean square of what becomes of independent numbers of variance 1, lifted and projected anew.

    ||A||_F^2 / k of the map A = P_new P_old^T; 1 for the same map with orthonormal rows. What has
    been carried is no longer white, so after several changes this is exact for maps that are drawn
    afresh, and close for learned ones.
    """
    if old.maps is None or new.maps is None:  # all coordinates alike: some tell of all
        some = torch.eye(old.k, device=device)[:: max(1, old.k // PROBES)]
        kept = old.k * float(new.project(old.lift(some)).double().square().sum()) / len(some)
    else:
        pairs = zip(old.maps, new.maps, layout.slots, strict=True)
        kept = sum(_overlap(before, after, slot) for before, after, slot in pairs)
    return kept / new.k


def _overlap(old: LayerMap, new: LayerMap, slot: Slot) -> float:
    """||A||_F^2 of one layer: the trace of the product of two orthogonal projectors."""
    match old, new:
        case InputBasis(P), InputBasis(Q):
            return slot.matrix[0] * float((P.T @ Q).double().square().sum())
        case Entries(a), Entries(b):
            return float(torch.isin(a, b).sum())
        case (InputBasis(Q), Entries(index)) | (Entries(index), InputBasis(Q)):
            return float(Q.double().square().sum(dim=1)[index % slot.matrix[1]].sum())
        case _:  # one of them keeps everything
            return float(min(old.width(slot), new.width(slot)))
