"""CAF, the covariance-agnostic filter.

Allouah, Guerraoui, Stephan, "Towards trustworthy federated learning with untrusted participants",
ICML 2025. From c = 1, while sum_i c_i > n - 2f:

    mu_c   = sum_i c_i x_i / sum_i c_i
    Sigma  = sum_i c_i (x_i - mu_c)(x_i - mu_c)^T / sum_i c_i,  (lambda, v) its top eigenpair
    tau_i  = <v, x_i - mu_c>^2
    c_i   <- c_i (1 - tau_i / max_j tau_j)

and the output is the mu_c of the smallest lambda seen. The maximum runs over rows of positive
weight, so every turn removes at least one row for good. The eigenpair comes
from the Gram (``_spectral``, which says when it is not exact); 1000 rows take no d x d matrix and
no n^3 operations a turn. Turns whose lambda cannot be the smallest are left out, and the steps of
a turn are bounded: rows at right angles, for which eigenvectors are hardest to tell apart, would
otherwise be worth sending to wear the server out. 1000 of them with f = 499 take two and a half
seconds of one core after the Gram, the most that was found.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
        reach = _least_reach(G, c, least) if f > 0 else c
        while f > 0 and (total := c.sum()) > least + ROUNDING:
            heard = c > 0
            if reach[heard].min() > 2 * (heard.sum() - 1) * best * (1 + SLACK):
                break  # no later lambda is smaller
            w = c / total
            along = turns.spread(w)
            if along.variance < best:
                best, kept = along.variance, w
            if along.none:
                break
            c = filtered(c, along.tau)
        return kept


def _least_reach(G: FloatArray, c: FloatArray, least: float) -> FloatArray:
    """What sum_j w_j ||x_i - x_j||^2 is at least, (n,), for the weights w of any later turn.

    Masses only shrink and their sum stays above `least`, so w_j <= c_j / least; the least sum has
    the nearest rows filled up to that. Half of the smallest such sum bounds the trace of every
    later Sigma from below, and a trace is at most lambda times the rank.
    """
    D = squared_distances(G)
    order = np.argsort(D, axis=1)
    return np.asarray((first_mass(order, c / least, 1.0) * D).sum(axis=1))
