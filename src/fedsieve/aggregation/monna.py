"""MoNNA's rule, nearest-neighbour averaging around a pivot.

Farhadkhani, Guerraoui, Gupta, Hoang, Pinot, Stephan, "Robust collaborative learning with linear
gradient overhead", ICML 2023. With the messages ordered by their distance to the pivot x_p,

    R(x) = (x_(1) + ... + x_(n-f)) / (n - f),  ||x_(1) - x_p|| <= ... <= ||x_(n) - x_p||,

where x_(1) = x_p itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from torch import Tensor

from fedsieve._arguments import integer
from fedsieve.aggregation._door import Rows, TooManyFaultyClients
from fedsieve.aggregation._nearest import Nearest
from fedsieve.aggregation.facts import Facts
from fedsieve.aggregation.rule import minority
from fedsieve.registry import register


@register("rule", "monna", paper='Farhadkhani et al., "Robust collaborative learning", ICML 2023')
@dataclass(frozen=True)
class MoNNA(Nearest):
    """MoNNA: the mean of the n - f messages nearest to the message of one trusted client.

    Meant for a client that aggregates what it receives together with its own message. With client
    weights, the farthest messages lose the most weight that f clients can hold. Behind a
    pre-aggregator, mixed messages are compared with the pivot's own one, as it was sent.

    Args:
        f: Number of Byzantine clients, 2f < n.
        pivot: Number of the trusted client, its row in the stack of all messages: from 0 to n - 1,
            also where other clients are absent, and where a pre-aggregator makes fewer rows.

    Raises:
        ValueError: ``f`` or ``pivot`` is not an integer >= 0, or at the call no such client.
        TooManyFaultyClients: At the call, the pivot's message is unusable.

    Example:
        >>> import torch
        >>> MoNNA(f=1, pivot=1)(torch.tensor([[1.0], [2.0], [3.0], [2.0], [99.0]]))
        tensor([2.])
    """

    pivot: int = 0
    lacks: ClassVar[Facts] = Facts.SYMMETRIC
    about_point: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        integer(self, "pivot")

    def breakdown(self, n: int) -> int:
        """2f < n."""
        return minority(n)

    def check(self, n: int) -> None:
        """Refuse 2f >= n, and a pivot that is none of n clients.

        Raises:
            ValueError: Either is the case.
        """
        super().check(n)
        self._check_pivot(n)

    def _check_pivot(self, n: int) -> None:
        if self.pivot >= n:
            raise ValueError(f"pivot={self.pivot} with n={n} clients; allowed are 0..{n - 1}")

    def _unnumbered(self) -> Self:
        return replace(self, pivot=0)

    def kappa(self, n: int) -> float | None:  # noqa: ARG002
        """0 for f = 0; otherwise none is known to us."""
        return 0.0 if self.f == 0 else None

    def _points(self, rows: Rows) -> Tensor:
        if not rows.usable[self.pivot]:
            raise TooManyFaultyClients(f"the message of the trusted pivot={self.pivot} is unusable")
        at = int(np.count_nonzero(rows.usable[: self.pivot]))
        return rows.data[at : at + 1]
