"""Krum and Multi-Krum.

Blanchard, El Mhamdi, Guerraoui, Stainer, "Machine learning with adversaries: Byzantine tolerant
gradient descent", NeurIPS 2017. The score of a message is the sum of its squared distances to the
n - f - 2 other messages nearest to it:

    s(i) = sum_{i -> j} ||x_i - x_j||^2.

Krum is the message of smallest score, Multi-Krum the mean of the m messages of smallest score. The
paper takes the client of lowest number where several have the same score, as mixed messages often
do; here they share the place, so that no order of the clients matters. What is proven of Krum
bounds the distance of every such message to the honest mean, and with it that of their mean.

With client weights p_i of mean 1, of which f clients hold at most F, messages are counted by mass:
a message and those nearest to it make up the mass n - F - 1. Who is honest finds that much among
the honest, and f Byzantine clients do not have it, however the weights are spread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fedsieve._arguments import choice, integer
from fedsieve.aggregation._door import FloatArray
from fedsieve.aggregation._gram import GramRule, squared_distances
from fedsieve.aggregation._ties import NEAR_TIE, first_mass, least
from fedsieve.aggregation.facts import Facts
from fedsieve.aggregation.rule import largest_share, minority
from fedsieve.registry import register

Neighbours = Literal["n-f-2", "n-f-1"]


@register("rule", "krum", paper='Blanchard et al., "Machine learning with adversaries", 2017')
@dataclass(frozen=True)
class Krum(GramRule):
    """Krum: the one message that is nearest to its n - f - 2 nearest others.

    With client weights a message and its neighbours are counted by their weight, the last one in
    part, and f clients must hold less than (1 - 1/n)/2 of the weight. The winner is one message,
    whatever its client weighs; of equal scores, up to rounding, it is the mean of their messages.

    Args:
        f: Number of Byzantine clients, n > 2f + 2.
        neighbours: How many others are summed over: "n-f-2" as published, or "n-f-1" as in some
            libraries, for which 2f < n is enough.

    Raises:
        ValueError: ``f`` is not an integer >= 0, or ``neighbours`` is none of the two.

    Example:
        >>> import torch
        >>> Krum(f=1)(torch.tensor([[1.0], [2.0], [3.1], [2.2], [99.0]]))
        tensor([2.2000])
    """

    neighbours: Neighbours = "n-f-2"
    lacks: ClassVar[Facts] = Facts.AVERAGES

    def __post_init__(self) -> None:
        super().__post_init__()
        choice(self, "neighbours", get_args(Neighbours))

    def breakdown(self, n: int) -> int:
        """N > 2f + 2, or 2f < n with neighbours="n-f-1"."""
        return _breakdown(n, self.neighbours)

    def weight_limit(self, n: int) -> float:
        """(1 - 1/n)/2, or 1/2 with neighbours="n-f-1"."""
        return _limit(n, _others(self.neighbours))

    def kappa(self, n: int) -> float | None:
        """6 (1 + f/(n - 2f)) (Allouah et al., "Fixing by mixing", 2023)."""
        self.check(n)
        return 6 * (1 + self.f / (n - 2 * self.f))

    def _solve(self, G: FloatArray, removed: int, share: FloatArray | None) -> FloatArray:
        f = self.f - removed
        score = scores(squared_distances(G), f, _others(self.neighbours), share)
        w = np.where(score <= score.min() * (1 + NEAR_TIE), 1.0 if share is None else share, 0)
        return np.asarray(w / w.sum())


@register("rule", "multi-krum", paper='Blanchard et al., "Machine learning with adversaries", 2017')
@dataclass(frozen=True)
class MultiKrum(GramRule):
    """Multi-Krum: the mean of the m messages that are nearest to their nearest others.

    Client weights count as in Krum; of the messages in the order of their scores, as many are
    averaged by weight as weigh m average clients, the last one in part; equal scores count in equal
    parts. Never more than all but f clients are sure to weigh, so that no Byzantine message is
    needed.

    Args:
        f: Number of Byzantine clients, n > 2f + 2.
        m: How many messages are averaged, 1 <= m <= n - f; default: n - f - 2, the most for which
            the paper has a proof (n - f with neighbours="n-f-1", as in the libraries that do so).
        neighbours: As in `Krum`.

    Raises:
        ValueError: ``f`` is not an integer >= 0, ``m`` none >= 1, ``neighbours`` none of the two,
            or at the first use m > n - f.

    Example:
        >>> import torch
        >>> MultiKrum(f=1, m=3)(torch.tensor([[1.0], [2.0], [3.0], [2.0], [99.0]]))
        tensor([2.])
    """

    m: int | None = None
    neighbours: Neighbours = "n-f-2"
    lacks: ClassVar[Facts] = Facts.AVERAGES

    def __post_init__(self) -> None:
        super().__post_init__()
        choice(self, "neighbours", get_args(Neighbours))
        integer(self, "m", 1, none="for n - f - 2")

    def breakdown(self, n: int) -> int:
        """N > 2f + 2, or 2f < n with neighbours="n-f-1"."""
        return _breakdown(n, self.neighbours)

    def check(self, n: int) -> None:
        """Refuse an f that is too large for n clients, and m > n - f."""
        super().check(n)
        if self.m is not None and self.m > n - self.f:
            raise ValueError(f"m={self.m} exceeds n - f = {n - self.f}, the largest allowed")

    def weight_limit(self, n: int) -> float:
        """(1 - 1/n)/2, or 1/2 with neighbours="n-f-1"."""
        return _limit(n, _others(self.neighbours))

    def kappa(self, n: int) -> float | None:
        """Krum's for m = 1; otherwise none is known to us."""
        return Krum(self.f, self.neighbours).kappa(n) if self.m == 1 else None

    def _solve(self, G: FloatArray, removed: int, share: FloatArray | None) -> FloatArray:
        n, f = len(G), self.f - removed
        others = _others(self.neighbours)
        score = scores(squared_distances(G), f, others, share)
        if share is None:
            sure, mass = float(n - f), np.ones(n)
        else:
            sure, mass = n * (1 - largest_share(share, n, f)), n * share
        m = min(self.m or sure - (2 if others == 2 else 0), sure)
        taken = least(score, mass, m)
        return np.asarray(taken / taken.sum())


def scores(D: FloatArray, f: int, others: int = 2, share: FloatArray | None = None) -> FloatArray:
    """Krum's scores, (n,): over the n - f - others nearest other messages, at least one.

    With shares, a message counts n p_j times, and oneself comes first.

    Raises:
        TooManyFaultyClients: f clients can hold so much that they need no other neighbours.
    """
    n = len(D)
    if share is None:
        D = D.copy()
        np.fill_diagonal(D, np.inf)  # nobody is its own neighbour, even among equal messages
        count = max(n - f - others, 1)
        return np.asarray(np.sort(D, axis=1)[:, : min(count, n - 1)].sum(axis=1))
    most = largest_share(share, n, f, _limit(n, others))
    mass = first_mass(nearest_first(D), n * share, n * (1 - most) - others + 1)
    return np.asarray((mass * D).sum(axis=1))


def nearest_first(D: FloatArray) -> NDArray[np.intp]:
    """Per message, all messages by their squared distances (n, n) to it, itself first."""
    D = D.copy()
    np.fill_diagonal(D, -1)  # even among equal messages
    return np.argsort(D, axis=1, kind="stable")


def _others(neighbours: Neighbours) -> int:
    return int(neighbours[-1])


def _limit(n: int, others: int) -> float:
    """Share that f clients must not reach, or they would need nobody else: n - F - 1 > F."""
    return 0.5 if others == 1 else 0.5 - 0.5 / n


def _breakdown(n: int, neighbours: Neighbours) -> int:
    return max((n - 3) // 2, -1) if _others(neighbours) == 2 else minority(n)
