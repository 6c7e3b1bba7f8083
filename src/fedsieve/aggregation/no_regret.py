"""The no-regret spectral filter.

Zhu, Pang, Wang, Wang, Jiao, Song, Jordan, "Byzantine-robust federated learning with optimal
statistical rates", AISTATS 2023. The f rows with the largest sum of squared distances to their
nearest others are dropped. On the n' = n - f rows left, with eps = f/n, eta = 1 / (2 max_ij D_ij)
and c = 1/n', at most 2f times:

    (lambda, v)  the top eigenpair of the covariance weighted by c; stop if it is small
    tau_i  = <v, x_i - mu_c>^2
    c     <- argmin { KL(c' || c (1 - eta tau)) : sum_i c'_i = 1, c'_i <= 1 / ((1 - eps) n') }

and the output is mu_c. A row's sum runs over its n - f - 1 nearest others, so that f rows in one
place cannot be each other's only neighbours as long as 2f < n (Krum takes n - f - 2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedsieve.aggregation._door import FloatArray
from fedsieve.aggregation._filtering import SpectralFilter
from fedsieve.aggregation._gram import squared_distances
from fedsieve.aggregation._ties import ranks
from fedsieve.aggregation.rule import largest_share
from fedsieve.registry import register


@register(
    "rule",
    "no-regret",
    paper='Zhu et al., "Byzantine-robust FL with optimal statistical rates", AISTATS 2023',
)
@dataclass(frozen=True)
class NoRegret(SpectralFilter):
    """No-regret filter: multiplicative weights against the top principal direction, capped shares.

    With client weights p, eps is the largest share that f clients can hold, and client i's cap is
    p_i / (1 - eps), relative to the rows left.

    Args:
        f: Number of Byzantine clients, 2f < n; the paper's rate is for small f/n.
        sigma: Standard deviation of honest messages along any direction, >= 0; 0 if unknown.
        expansion: The filter ends when the top variance is <= expansion * sigma^2, > 0.

    Example:
        >>> import torch
        >>> NoRegret(f=1)(torch.tensor([[1.0], [2.0], [3.0], [2.0], [99.0]]))
        tensor([2.])
    """

    def _solve(self, G: FloatArray, removed: int, share: FloatArray | None) -> FloatArray:
        n, f = len(G), self.f - removed
        eps = largest_share(share, n, f)
        p = np.full(n, 1 / n) if share is None else share
        w = np.zeros(n)
        rows = np.flatnonzero(p)
        rows = rows[_nearest(squared_distances(G[np.ix_(rows, rows)]), f)]
        w[rows] = self._reweighted(G[np.ix_(rows, rows)], p[rows] / p[rows].sum(), eps, f)
        return w

    def _reweighted(self, G: FloatArray, p: FloatArray, eps: float, f: int) -> FloatArray:
        widest = squared_distances(G).max()

        def step(c: FloatArray, tau: FloatArray) -> FloatArray:
            return capped(c * (1 - tau / (2 * widest)), p / (1 - eps))

        return self._turned(G, p, f, step)


def capped(c: FloatArray, most: FloatArray) -> FloatArray:
    """The shares <= ``most`` nearest to c in the KL divergence: min(most, t c), summing to 1.

    Args:
        c: Masses, (n,), > 0.
        most: Largest shares, (n,), > 0, with a sum >= 1.
    """
    order = np.argsort(-c / most, kind="stable")  # whoever reaches the cap first, first
    c, most = c[order], most[order]
    full = np.concatenate([[0.0], np.cumsum(most)[:-1]])  # the first j rows are at their caps
    t = (1 - full) / np.cumsum(c[::-1])[::-1]
    fits = t * c <= most * (1 + 1e-12)
    j = int(fits.argmax()) if fits.any() else len(c)
    shares = np.empty_like(c)
    shares[order] = np.where(np.arange(len(c)) < j, most, t[min(j, len(c) - 1)] * c)
    return shares


def _nearest(D: FloatArray, f: int) -> FloatArray:
    """All but the f rows farthest from their nearest others, in order; of a tie the first stay."""
    n = len(D)
    scores = np.sort(D, axis=1)[:, : n - f].sum(axis=1)  # the first is a row's 0 to itself
    return np.sort(np.argsort(ranks(scores), kind="stable")[: n - f])
