"""Rules that see inner products only: one product of the stack, then algebra of size n.

With rows x_i and any reference a, the Gram G_ij = <x_i - a, x_j - a> holds all distances, and the
aggregate is ``w^T X`` with weights w = weights(G) that sum to 1, whatever k is.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedsieve.aggregation._door import ClientWeights, FloatArray, Rows, normalised
from fedsieve.aggregation.rule import Rule

BLOCK = 1 << 18  # entries upcast to float64 at a time: 2 MiB, inside the second-level cache


def gram(rows: Rows) -> FloatArray:
    """Gram of the rows centred by the one of median norm and divided by the scale, float64.

    The row of median norm is no longer than some honest row and no shorter than another, so no
    Byzantine row can spend the digits that the honest distances need, as it could in the mean.
    """
    X = rows.data
    n, k = X.shape
    width = max(BLOCK // n, 1)
    G = np.zeros((n, n))
    for start in range(0, k, width):
        block = X[:, start : start + width].to(torch.float64, copy=True)
        block -= block[rows.reference].clone()
        if rows.scale != 1:
            block /= rows.scale
        # numpy sees A @ A.T and computes one triangle only; a device keeps its data to itself
        A = block.numpy() if block.device.type == "cpu" else None
        G += (block @ block.T).cpu().numpy() if A is None else A @ A.T
    return G


def squared_distances(G: FloatArray) -> FloatArray:
    """D_ij = G_ii + G_jj - 2 G_ij, (n, n), never negative, exactly 0 on the diagonal."""
    norms = np.diagonal(G)
    D: FloatArray = np.maximum(norms[:, None] + norms - 2 * G, 0)
    np.fill_diagonal(D, 0)
    return D


def weighted_sum(w: FloatArray, rows: Tensor) -> Tensor:
    """``w^T X`` in the rows' dtype and on their device."""
    return torch.from_numpy(w).to(rows) @ rows


@dataclass(frozen=True)
class GramRule(Rule):
    """A rule whose aggregate is ``w^T X`` with weights that depend on the Gram only."""

    reads_gram: ClassVar[bool] = True

    def weights(
        self, gram: Tensor | NDArray[np.floating], client_weights: ClientWeights | None = None
    ) -> Tensor:
        """The weight of each client in the aggregate, from inner products alone.

        Args:
            gram: Inner products of the messages, (n, n) and finite, centred by any common vector.
            client_weights: Public weights of the clients, (n,), finite and >= 0.

        Returns:
            (n,) float64 on the CPU, summing to 1.

        Raises:
            ValueError: Wrong shape, a value that is not finite, or an illegal (n, f).
        """
        G = gram.detach().cpu().numpy() if isinstance(gram, Tensor) else np.asarray(gram)
        n = len(G) if G.ndim else 0
        if n == 0 or G.shape != (n, n) or not np.isfinite(G).all():
            raise ValueError(f"gram of shape {G.shape} must be a finite, non-empty (n, n) matrix")
        self.check(n)
        share = None if client_weights is None else normalised(client_weights, n)
        return torch.from_numpy(self._solve(G.astype(np.float64), 0, share))

    @abstractmethod
    def _solve(self, G: FloatArray, removed: int, share: FloatArray | None) -> FloatArray:
        """Weights, summing to 1, of the rows that are left after so many were removed."""

    def _combine(self, rows: Rows, *, explain: bool) -> tuple[Tensor, FloatArray | None]:  # noqa: ARG002
        m = len(rows.data)
        G = gram(rows) if self.reads_gram else np.zeros((m, m))
        w = self._solve(G, rows.removed, rows.share)
        return weighted_sum(w, rows.data), w
