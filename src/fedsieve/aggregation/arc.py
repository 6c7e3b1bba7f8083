"""ARC, adaptive robust clipping.

Allouah, Guerraoui, Gupta, Jellouli, Rizk, Stephan, "Adaptive gradient clipping for robust federated
learning", ICLR 2025. The k = floor(2 (f/n) (n - f)) messages of largest norm are shortened to the
norm of the (k+1)-th largest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fedsieve._arguments import integer
from fedsieve.aggregation._door import FloatArray
from fedsieve.aggregation._gram import Products
from fedsieve.aggregation.clipping import clipped, norms_of
from fedsieve.aggregation.facts import Facts
from fedsieve.aggregation.pre_aggregator import PreAggregator, Reads
from fedsieve.aggregation.rule import check_breakdown, minority
from fedsieve.registry import register


@register("pre-aggregator", "arc", paper='Allouah et al., "Adaptive gradient clipping", ICLR 2025')
@dataclass(frozen=True)
class ARC(PreAggregator):
    """Adaptive robust clipping: shortens the longest messages, as many as f asks for.

    Keeps the robustness of the rule behind it and bounds what the first rounds can do. Client
    weights are passed on; how many are clipped counts every client alike.

    Args:
        f: Number of Byzantine clients, 2f < n; nothing is clipped for f = 0.

    Raises:
        ValueError: ``f`` is not an integer >= 0, or at the first use 2f >= n.

    Example:
        >>> import torch
        >>> from fedsieve.aggregation import Mean
        >>> (ARC(f=1) >> Mean())(torch.tensor([[0.5], [1.0], [99.0]]))
        tensor([0.8333])
    """

    f: int
    reads: ClassVar[Reads] = Reads.NORMS
    resizes: ClassVar[bool] = True
    lacks: ClassVar[Facts] = Facts.TRANSLATES | Facts.CONVEX

    def __post_init__(self) -> None:
        integer(self, "f")

    def breakdown(self, n: int) -> int:
        """2f < n."""
        return minority(n)

    def check(self, n: int) -> None:
        """Refuse 2f >= n."""
        check_breakdown(self, self.f, n, self.breakdown(n))

    def kappa(self, n: int, kappa: float) -> float | None:  # noqa: ARG002
        """The rule's own for f = 0; otherwise none is stated: it depends on the origin."""
        return kappa if self.f == 0 else None

    def mixing(self, seen: Products) -> tuple[FloatArray, FloatArray | None]:
        """The mixing that clips to the (k+1)-th largest norm."""
        self.check(seen.m + seen.removed)
        m, f, norms = seen.m, max(self.f - seen.removed, 0), norms_of(seen)
        k = 2 * f * (m - f) // m
        return clipped(norms, float(np.sort(norms)[m - 1 - k])), seen.share
