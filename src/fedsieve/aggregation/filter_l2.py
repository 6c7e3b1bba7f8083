"""FilterL2, a spectral filter with removal.

Zhu, Pang, Wang, Wang, Jiao, Song, Jordan, "Byzantine-robust federated learning with optimal
statistical rates", AISTATS 2023. From c = 1, at most 2f times:

    mu_c   = sum_i c_i x_i / sum_i c_i
    Sigma  = sum_i c_i (x_i - mu_c)(x_i - mu_c)^T / sum_i c_i,  (lambda, v) its top eigenpair
    stop if lambda <= expansion * sigma^2
    tau_i  = <v, x_i - mu_c>^2
    c_i   <- c_i (1 - tau_i / max_j tau_j)

and the output is the last mu_c. The farthest row loses all of its mass at every turn.

Two differences from the authors' public code (wanglun1996/secure-robust-federated-learning). It
compares lambda^2, not lambda, with expansion * sigma^2, a variance squared with a variance; here it
is the variance itself, so that the stop does not depend on the unit of the messages. With the
code's sigma = 1e-5 and messages of ordinary size neither form stops early. And it cuts the
coordinates into blocks of 1000; on the Gram the filter looks at all of them at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedsieve.aggregation._door import FloatArray
from fedsieve.aggregation._filtering import SpectralFilter
from fedsieve.aggregation._spectral import filtered
from fedsieve.aggregation.rule import largest_share
from fedsieve.registry import register


@register(
    "rule",
    "filter-l2",
    paper='Zhu et al., "Byzantine-robust FL with optimal statistical rates", AISTATS 2023',
)
@dataclass(frozen=True)
class FilterL2(SpectralFilter):
    """Spectral filter: 2f times turns down the clients that stretch the top principal direction.

    Client weights are initial masses.

    Args:
        f: Number of Byzantine clients, 2f < n; the paper's rate is for small f/n.
        sigma: Standard deviation of honest messages along any direction, >= 0; 0 if unknown.
        expansion: The filter ends when the top variance is <= expansion * sigma^2, > 0.

    Example:
        >>> import torch
        >>> FilterL2(f=1, sigma=1.0)(torch.tensor([[1.0], [2.0], [3.0], [2.0], [99.0]])).round()
        tensor([2.])
    """

    def _solve(self, G: FloatArray, removed: int, share: FloatArray | None) -> FloatArray:
        n, f = len(G), self.f - removed
        largest_share(share, n, f)
        w = np.full(n, 1 / n) if share is None else share
        return self._turned(G, w, f, filtered)
