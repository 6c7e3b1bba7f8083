"""FilterL2, a spectral filter with removal.

Zhu, Pang, Wang, Wang, Jiao, Song, Jordan, "Byzantine-robust federated learning with optimal
statistical rates", AISTATS 2023. From c = 1, at most 2f times:

    mu_c   = sum_i c_i x_i / sum_i c_i
    Sigma  = sum_i c_i (x_i - mu_c)(x_i - mu_c)^T / sum_i c_i,  (lambda, v) its top eigenpair
    stop if lambda <= expansion * sigma^2
    tau_i  = <v, x_i - mu_c>^2
    c_i   <- c_i (1 - tau_i / max_j tau_j)

and the output is the last mu_c. The farthest row loses all of its mass at every turn. Working on
the Gram, the filter looks at all coordinates at once, not at blocks of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedsieve.aggregation._door import FloatArray
from fedsieve.aggregation._gram import GramRule
from fedsieve.aggregation._spectral import check_scale, filtered, spread
from fedsieve.aggregation.rule import largest_share, minority
from fedsieve.registry import register


@register(
    "rule",
    "filter-l2",
    paper='Zhu et al., "Byzantine-robust FL with optimal statistical rates", AISTATS 2023',
)
@dataclass(frozen=True)
class FilterL2(GramRule):
    """Spectral filter: 2f times turns down the clients that stretch the top principal direction.

    Client weights are initial masses.

    Args:
        f: Number of Byzantine clients, 2f < n; the paper's rate is for small f/n.
        sigma: Standard deviation of honest messages along any direction, >= 0; 0 if unknown: the
            filter then takes all of its turns.
        expansion: How many times sigma^2 the top variance may be, > 0.

    Raises:
        ValueError: An argument out of range, or at the first use 2f >= n.

    Example:
        >>> import torch
        >>> FilterL2(f=1, sigma=1.0)(torch.tensor([[1.0], [2.0], [3.0], [2.0], [99.0]])).round()
        tensor([2.])
    """

    sigma: float = 0.0
    expansion: float = 20.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_scale(self.sigma, self.expansion)

    def breakdown(self, n: int) -> int:
        """2f < n."""
        return minority(n)

    def kappa(self, n: int) -> float | None:  # noqa: ARG002
        """0 for f = 0; otherwise none: the published bound is a statistical rate, up to order."""
        return 0.0 if self.f == 0 else None

    def _solve(self, G: FloatArray, removed: int, share: FloatArray | None) -> FloatArray:
        n, f = len(G), self.f - removed
        largest_share(share, n, f)
        w = np.full(n, 1 / n) if share is None else share
        for _ in range(2 * f):
            along = spread(G, w)
            if along.none or along.variance <= self.expansion * self.sigma**2:
                break
            c = filtered(w, along.tau)
            if c.sum() == 0:  # two rows are left, or all are equally far: none is to blame
                break
            w = c / c.sum()
        return w
