"""Static clipping: y_i = min(1, C / ||x_i||) x_i.

As a mixing with the origin as a further row: y_i = s_i x_i + (1 - s_i) 0, s_i = min(1, C/||x_i||).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fedsieve._arguments import real
from fedsieve.aggregation._door import FloatArray
from fedsieve.aggregation._gram import Products
from fedsieve.aggregation.facts import Facts
from fedsieve.aggregation.pre_aggregator import PreAggregator, Reads
from fedsieve.registry import register


@register("pre-aggregator", "clipping", paper="folklore")
@dataclass(frozen=True)
class Clipping(PreAggregator):
    """Static clipping: shortens every message to norm C.

    Client weights are passed on; the median norm counts every client alike.

    Args:
        C: Largest norm, > 0, in the unit of the messages. ``None``: the median norm of the usable
            messages (the lower one of two).

    Raises:
        ValueError: ``C`` is not finite and > 0.

    Example:
        >>> import torch
        >>> from fedsieve.aggregation import Mean
        >>> (Clipping(C=1.0) >> Mean())(torch.tensor([[0.5], [99.0]]))
        tensor([0.7500])
    """

    C: float | None = None
    reads: ClassVar[Reads] = Reads.NORMS
    resizes: ClassVar[bool] = True
    lacks: ClassVar[Facts] = Facts.TRANSLATES | Facts.CONVEX | Facts.AVERAGES

    def __post_init__(self) -> None:
        real(self, "C", above=0, none="for the median norm")

    @property
    def facts(self) -> Facts:
        """With a fixed C it scales with nothing, and shortens even equal messages."""
        return ~self.lacks if self.C is None else ~(self.lacks | Facts.SCALES | Facts.UNANIMOUS)

    def breakdown(self, n: int) -> int:
        """Any number; what counts is the rule behind it."""
        return n

    def check(self, n: int) -> None:
        """Nothing is refused."""

    def kappa(self, n: int, kappa: float) -> float | None:  # noqa: ARG002
        """None: what it does depends on where the origin is."""
        return None

    def mixing(self, seen: Products) -> tuple[FloatArray, FloatArray | None]:
        """S on the diagonal, 1 - s in the origin's column."""
        norms = norms_of(seen)
        C = np.sort(norms)[(seen.m - 1) // 2] if self.C is None else self.C / seen.scale
        return clipped(norms, C), seen.share


def norms_of(seen: Products) -> FloatArray:
    """Distances of the messages to the origin, the first of the further points: (m,)."""
    G, o = seen.G, seen.m
    squares = np.diagonal(G)[:o] - 2 * G[:o, o] + G[o, o]
    return np.asarray(np.sqrt(np.maximum(squares, 0)))


def clipped(norms: FloatArray, C: float) -> FloatArray:
    """The mixing (m, m + 1) that shortens messages of these norms to C; a row 0 stays."""
    s = shortening(norms, C)
    return np.hstack([np.diag(s), 1 - s[:, None]])


def shortening(norms: FloatArray, C: float) -> FloatArray:
    """min(1, C / norm) for every norm; 1 for a norm 0."""
    s = np.ones(len(norms))
    np.divide(C, norms, out=s, where=norms > C)
    return s
