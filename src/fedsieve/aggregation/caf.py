"""CAF, the covariance-agnostic filter.

Allouah, Guerraoui, Stephan, "Towards trustworthy federated learning with untrusted participants",
ICML 2025. From c = 1, while sum_i c_i > n - 2f:

    mu_c   = sum_i c_i x_i / sum_i c_i
    Sigma  = sum_i c_i (x_i - mu_c)(x_i - mu_c)^T / sum_i c_i,  (lambda, v) its top eigenpair
    tau_i  = <v, x_i - mu_c>^2
    c_i   <- c_i (1 - tau_i / max_j tau_j)

and the output is the mu_c of the smallest lambda seen. The maximum runs over rows of positive
weight, so every turn removes at least one row for good. The eigenpair is exact and comes from the
Gram (``_spectral``); 1000 rows take no d x d matrix and no n^3 operations a turn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedsieve.aggregation._door import FloatArray
from fedsieve.aggregation._gram import GramRule
from fedsieve.aggregation._spectral import ROUNDING, filtered, spread
from fedsieve.aggregation.rule import largest_share, minority
from fedsieve.registry import register


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
            along = spread(G, w)
            if along.variance < best:
                best, kept = along.variance, w
            if along.none:
                break
            c = filtered(c, along.tau)
        return kept
