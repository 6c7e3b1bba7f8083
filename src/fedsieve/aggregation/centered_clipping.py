"""Centered clipping.

Karimireddy, He, Jaggi, "Learning from history for Byzantine robust optimization", ICML 2021. From
the previous aggregate v_0, repeat L times

    v <- v + (1/n) sum_i (x_i - v) min(1, tau / ||x_i - v||).

v is kept as weights w over the messages and v_0, v = w^T [X; v_0]: with s_i the factor of message
i, a step is w <- (1 - mean_i s_i) w + s / n.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from fedsieve._arguments import integer, real
from fedsieve.aggregation._door import FloatArray, Rows, Vector, length, vector
from fedsieve.aggregation._gram import PointRule, Products, squared_distances_to, summed_distances
from fedsieve.aggregation._ties import NEAR_TIE
from fedsieve.aggregation.facts import Facts
from fedsieve.aggregation.rule import largest_share, minority
from fedsieve.registry import register


@register("rule", "centered-clipping", paper='Karimireddy et al., "Learning from history", 2021')
@dataclass(frozen=True)
class CenteredClipping(PointRule):
    """Centered clipping: moves a centre by the messages, none of which may pull farther than tau.

    It has no memory: the aggregate is the ``v0`` of the next round, see the example. Client weights
    take the place of 1/n.

    Args:
        f: Number of Byzantine clients, 2f < n; the published theory has f/n <= 0.1.
        tau: Clipping radius, > 0, in the unit of the messages. Take it from a public or noisy
            scale, never from raw private data. ``None``, which is not in the paper, takes in every
            iteration the (n - f)-th smallest distance to v: at most f messages are clipped.
        iterations: The number L, >= 1.
        v0: Centre to start from, (k,): the previous aggregate. ``None``: the message of smallest
            summed distance to the others, the mean of several such ones.

    Raises:
        ValueError: ``f`` is not an integer >= 0, ``tau`` not finite and > 0, ``iterations`` none
            >= 1, ``v0`` not finite or, at the call, not of the messages' length.

    Example:
        >>> import torch
        >>> from dataclasses import replace
        >>> rule = CenteredClipping(f=1, tau=1.0, iterations=1, v0=torch.tensor([2.0]))
        >>> centre = rule(torch.tensor([[1.0], [2.0], [3.0], [2.0], [99.0]]))
        >>> centre
        tensor([2.2000])
        >>> rule = replace(rule, v0=centre)  # for the next round
    """

    tau: float | None = None
    iterations: int = 3
    v0: Vector | None = field(default=None, compare=False, repr=False)  # a state, not a setting

    def __post_init__(self) -> None:
        super().__post_init__()
        real(self, "tau", above=0, none="for the (n - f)-th smallest distance")
        integer(self, "iterations", 1)
        vector(self, "v0")

    @property
    def facts(self) -> Facts:
        """Without v0 it moves with the messages; only a tau of their own scale scales with them."""
        found = ~Facts.NONE
        if self.v0 is not None:
            found &= ~(Facts.TRANSLATES | Facts.SCALES | Facts.UNANIMOUS | Facts.CONVEX)
        if self.v0 is not None or self.tau is not None:
            found &= ~(Facts.SCALES | Facts.AVERAGES)
        return found

    def breakdown(self, n: int) -> int:
        """2f < n."""
        return minority(n)

    def kappa(self, n: int) -> float | None:  # noqa: ARG002
        """0 where it is the mean; otherwise it depends on tau and v0."""
        return 0.0 if self.f == 0 and Facts.AVERAGES in self.facts else None

    def _reach(self) -> float:
        return 0.0 if self.v0 is None else length(self.v0)

    def _points(self, rows: Rows) -> Tensor:
        return rows.data[:0] if self.v0 is None else rows.cut(self.v0, "v0")[None]

    def _place(self, seen: Products) -> FloatArray:
        G, m, f = seen.G, seen.m, self.f - seen.removed
        p = np.full(m, 1 / m) if seen.share is None else seen.share
        largest_share(seen.share, m, f)
        w = np.zeros(len(G))
        if self.v0 is None:
            w[:m] = _medoid(G, p)
        else:
            w[m] = 1
        for _ in range(self.iterations):
            distances = np.sqrt(squared_distances_to(G, w)[:m])
            if self.tau is None:
                heard = np.sort(distances[p > 0])
                tau = heard[max(len(heard) - f, 1) - 1]
            else:
                tau = self.tau / seen.scale
            s = np.ones(m)
            np.divide(tau, distances, out=s, where=distances > tau)
            w *= 1 - p @ s
            w[:m] += p * s
        return w


def _medoid(G: FloatArray, p: FloatArray) -> FloatArray:
    """The message of positive weight whose summed distance to the others is smallest: its weights.

    Several such ones, up to rounding, share the place.
    """
    m = len(p)
    G = G[:m, :m]
    summed = np.where(p > 0, summed_distances(G, p), np.inf)
    rounding = NEAR_TIE * np.sqrt(max(np.median(np.diagonal(G)), 0))
    w = np.where(summed <= summed.min() + rounding, p, 0)
    return np.asarray(w / w.sum())
