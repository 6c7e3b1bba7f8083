"""CAF, the covariance-agnostic filter.

Allouah, Guerraoui, Stephan, "Towards trustworthy federated learning with untrusted participants",
ICML 2025. From c = 1, while sum_i c_i > n - 2f:

    mu_c   = sum_i c_i x_i / sum_i c_i
    Sigma  = sum_i c_i (x_i - mu_c)(x_i - mu_c)^T / sum_i c_i,  (lambda, v) its top eigenpair
    tau_i  = <v, x_i - mu_c>^2
    c_i   <- c_i (1 - tau_i / max_j tau_j)

and the output is the mu_c of the smallest lambda seen. The maximum runs over rows of positive
weight, so every turn removes at least one row for good. The eigenpair is exact and comes from the
Gram: with w = c / sum_i c_i and K the Gram of the x_i - mu_c, the matrix W = sqrt(w) K sqrt(w) has
the spectrum of Sigma, and its top eigenvector u gives
sqrt(tau_i) = (K sqrt(w) u)_i / sqrt(lambda).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg.lapack import dsyevr

from fedsieve.aggregation._door import FloatArray
from fedsieve.aggregation._gram import GramRule
from fedsieve.aggregation.rule import largest_share, minority
from fedsieve.registry import register

ROUNDING = 1e-15  # a spread below this part of the squared norms is the rounding of K


@register(
    "rule",
    "caf",
    paper='Allouah et al., "Towards trustworthy FL with untrusted participants", ICML 2025',
)
@dataclass(frozen=True)
class CAF(GramRule):
    """Covariance-agnostic filter: turns down the clients that stretch the top principal direction.

    Needs no bound on the honest covariance and no threshold. Client weights are initial masses.

    Args:
        f: Number of Byzantine clients, 2f < n.

    Example:
        >>> import torch
        >>> stack = torch.tensor([[1.0], [2.0], [3.0], [2.0], [99.0]])
        >>> CAF(f=1)(stack).round(decimals=2)
        tensor([2.])
    """

    def breakdown(self, n: int) -> int:
        """2f < n."""
        return minority(n)

    def kappa(self, n: int) -> float | None:  # noqa: ARG002
        """0 for f = 0; otherwise none: the published bound is in the spectral norm, up to order."""
        return 0.0 if self.f == 0 else None

    def _solve(self, G: FloatArray, removed: int, share: FloatArray | None) -> FloatArray:
        n, f = len(G), self.f - removed
        c = np.full(n, 1 / n) if share is None else share.copy()
        least = 1 - 2 * largest_share(share, n, f)
        best, kept = np.inf, c
        while f > 0 and (total := c.sum()) > least + ROUNDING:
            w = c / total
            Gw = G @ w
            K = G - Gw[:, None] - Gw + w @ Gw
            root = np.sqrt(w)
            variance, u = _top(root[:, None] * K * root)
            if variance < best:
                best, kept = variance, w
            if variance <= ROUNDING * (w @ np.abs(np.diagonal(G))):
                break
            # divided before it is squared: the square of a far row's square would overflow
            tau = np.square((K @ (root * u)) / np.sqrt(variance))
            c = c * np.maximum(1 - tau / tau[c > 0].max(), 0)
        return kept


def _top(M: FloatArray) -> tuple[float, FloatArray]:
    """Largest eigenvalue and its unit eigenvector of a symmetric matrix."""
    n = len(M)
    values, vectors, _, _, _ = dsyevr(M, range="I", il=n, iu=n)
    return max(float(values[0]), 0.0), vectors[:, 0]
