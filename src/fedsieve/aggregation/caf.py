"""CAF, the covariance-agnostic filter.

Allouah, Guerraoui, Stephan, "Towards trustworthy federated learning with untrusted participants",
ICML 2025. From c = 1, while sum_i c_i > n - 2f:

    mu_c   = sum_i c_i x_i / sum_i c_i
    Sigma  = sum_i c_i (x_i - mu_c)(x_i - mu_c)^T / sum_i c_i,  (lambda, v) its top eigenpair
    tau_i  = <v, x_i - mu_c>^2
    c_i   <- c_i (1 - tau_i / max_j tau_j)

and the output is the mu_c of the smallest lambda seen. The maximum runs over rows of positive
weight, so every turn removes at least one row for good. The eigenpair comes from the Gram
(``_spectral``, which says how far it is converged and what that costs); 1000 rows take no d x d
matrix and no n^3 operations a turn. Turns whose lambda cannot be the smallest are left out, and the
products of all turns are bounded: rows at right angles, for which eigenvectors are hardest to tell
apart, would otherwise be worth sending to wear the server out. 1000 rows with f = 499 take under
two seconds of one core after the Gram in the worst of some twenty cases that were tried (rows at
right angles, their lengths in a geometric series), and under one second where they are noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedsieve.aggregation._door import FloatArray
from fedsieve.aggregation._gram import GramRule, squared_distances
from fedsieve.aggregation._spectral import ROUNDING, Turns, filtered
from fedsieve.aggregation._ties import first_mass
from fedsieve.aggregation.rule import largest_share, minority
from fedsieve.registry import register

SLACK = 1e-9  # relative; what rounding may add to a bound is far less


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
        turns, best, kept = Turns(G), np.inf, c
        floor = _Floor(G, c, least) if f > 0 else None
        while floor and (total := c.sum()) > least + ROUNDING:
            if floor.later(c > 0) > best * (1 + SLACK):
                break
            w = c / total
            along = turns.spread(w)
            if along.variance < best:
                best, kept = along.variance, w
            if along.none:
                break
            c = filtered(c, along.tau)
        return kept


class _Floor:
    """What lambda is at least, from some turn on.

    Masses only shrink and their sum stays above `least`, so that w_j <= c_j / least for the weights
    w of any later turn. While no weight is above t, r_i(t) is what sum_j w_j ||x_i - x_j||^2 is at
    least: the nearest rows filled up to min(t, c_j / least). Of the m rows still heard,

        (m - 1) lambda >= trace(Sigma) = 1/2 sum_i w_i sum_j w_j ||x_i - x_j||^2 >= 1/2 min r(t)

    for weights up to t. If some w_i is larger, lambda >= w_i ||x_i - mu||^2 >= t (r_i(1) - trace),
    hence (m - 1) lambda >= min r(1) / (1 + 1/(t (m - 1))). Always, (m - 1) lambda >= 1/2 min r(1).
    """

    def __init__(self, G: FloatArray, c: FloatArray, least: float) -> None:
        D = squared_distances(G)
        order = np.argsort(D, axis=1)
        self._t = 1 / np.sqrt(len(G))
        self._any, self._even = (
            (first_mass(order, np.minimum(c / least, t), 1.0) * D).sum(axis=1)
            for t in (1.0, self._t)
        )

    def later(self, heard: NDArray[np.bool_]) -> float:
        """A bound for this turn and all later ones, in which no other rows are heard."""
        rank = heard.sum() - 1
        if rank == 0:
            return 0.0
        any_, even = self._any[heard].min(), self._even[heard].min()
        either = min(even / 2, any_ / (1 + 1 / (self._t * rank)))
        return float(max(any_ / 2, either) / rank)
