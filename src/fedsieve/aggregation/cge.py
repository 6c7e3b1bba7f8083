"""CGE, comparative gradient elimination.

Gupta, Liu, Vaidya, "Byzantine fault-tolerance in peer-to-peer distributed gradient-descent", 2021.
With ||x_(1)|| <= ... <= ||x_(n)||,

    R(x) = (x_(1) + ... + x_(n-f)) / (n - f).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fedsieve.aggregation._door import Rows
from fedsieve.aggregation._gram import origin
from fedsieve.aggregation._nearest import Nearest
from fedsieve.aggregation.facts import Facts
from fedsieve.aggregation.rule import minority
from fedsieve.registry import register


@register("rule", "cge", paper='Gupta et al., "Byzantine fault-tolerance in peer-to-peer", 2021')
@dataclass(frozen=True)
class CGE(Nearest):
    """Comparative gradient elimination: the mean of the n - f messages of smallest norm.

    Cheap, and right only if the honest costs are redundant: small messages are never suspected.
    What is kept is no longer than the longest honest message, so the error is bounded by the honest
    messages' length; it is not by their spread, so that it lacks `Facts.ROBUST`.
    With client weights, the largest messages lose the most weight that f clients can hold.

    Args:
        f: Number of Byzantine clients, 2f < n.

    Example:
        >>> import torch
        >>> CGE(f=1)(torch.tensor([[1.0], [2.0], [3.0], [2.0], [99.0]]))
        tensor([2.])
    """

    lacks: ClassVar[Facts] = Facts.TRANSLATES | Facts.ROBUST  # a small message is always believed
    about_point: ClassVar[bool] = True

    def breakdown(self, n: int) -> int:
        """2f < n."""
        return minority(n)

    def kappa(self, n: int) -> float | None:  # noqa: ARG002
        """0 for f = 0; otherwise none: it depends on where the origin is."""
        return 0.0 if self.f == 0 else None

    def _points(self, rows: Rows) -> Tensor:
        return origin(rows)
