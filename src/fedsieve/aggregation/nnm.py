"""NNM, nearest-neighbour mixing.

Allouah, Farhadkhani, Guerraoui, Gupta, Pinot, Stephan, "Fixing by mixing: a recipe for optimal
Byzantine ML under heterogeneity", AISTATS 2023. Every message becomes the mean of the n - f
messages nearest to it, itself among them:

    y_i = (1/(n-f)) sum_{j in N_i} x_j,  i.e.  M_ij = [j in N_i] / (n - f).

If several messages are equally far and not all of them fit into N_i, they share the places that are
left: y_i is then the mean over all choices of N_i, each of which the paper's lemma allows. As the
lemma bounds sum_i |y_i - mean_S|^2, which is convex, it holds for their mean too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedsieve._arguments import integer
from fedsieve.aggregation._door import FloatArray
from fedsieve.aggregation._gram import Products, squared_distances
from fedsieve.aggregation._ties import least
from fedsieve.aggregation.pre_aggregator import PreAggregator
from fedsieve.aggregation.rule import check_breakdown, largest_share, minority
from fedsieve.registry import register


@register("pre-aggregator", "nnm", paper='Allouah et al., "Fixing by mixing", AISTATS 2023')
@dataclass(frozen=True)
class NNM(PreAggregator):
    """Nearest-neighbour mixing: replaces each message by the mean of its n - f nearest ones.

    Takes the heterogeneity of honest clients out of a rule's error. Of messages that are equally
    far, up to rounding, each has the same part, so that no order of the clients matters. With
    client weights, neighbours are averaged and counted by their weight, the last one in part: as
    many as weigh what all but f clients are sure to weigh.

    Args:
        f: Number of Byzantine clients, 2f < n.

    Raises:
        ValueError: ``f`` is not an integer >= 0, or at the first use 2f >= n.

    Example:
        >>> from fedsieve.aggregation import TrimmedMean
        >>> NNM(f=1) >> TrimmedMean(f=1)
        NNM(f=1) >> TrimmedMean(f=1)
    """

    f: int

    def __post_init__(self) -> None:
        integer(self, "f")

    def breakdown(self, n: int) -> int:
        """2f < n."""
        return minority(n)

    def check(self, n: int) -> None:
        """Refuse 2f >= n."""
        check_breakdown(self, self.f, n, self.breakdown(n))

    def kappa(self, n: int, kappa: float) -> float | None:
        """8f/(n - f) * (kappa + 1) (the paper's lemma on mixing)."""
        self.check(n)
        return 8 * self.f / (n - self.f) * (kappa + 1)

    def mixing(self, seen: Products) -> tuple[FloatArray, FloatArray | None]:
        """M_ij = 1/(n-f) for the n - f nearest messages j of message i, else 0.

        Row i of the mixed stack has the share p_i of client i. With shares, M_ij is p_j over their
        sum for the nearest ones that hold what all but f clients are sure to hold.
        """
        m, f = seen.m, max(self.f - seen.removed, 0)
        self.check(m + seen.removed)
        D = squared_distances(seen.G[:m, :m])
        if seen.share is None:
            return least(D, np.ones(m), m - f) / (m - f), None
        taken = least(D, seen.share, 1 - largest_share(seen.share, m, f))
        return taken / taken.sum(axis=1, keepdims=True), seen.share
