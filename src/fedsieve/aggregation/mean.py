"""The mean: R(x) = sum_i p_i x_i, with p_i = 1/n unless clients have weights.

The baseline of every comparison. One Byzantine client moves it wherever it likes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fedsieve.aggregation._door import FloatArray
from fedsieve.aggregation._gram import GramRule
from fedsieve.aggregation.facts import Facts
from fedsieve.registry import register


@register("rule", "mean", paper="folklore")
@dataclass(frozen=True)
class Mean(GramRule):
    """Mean of the messages: optimal without Byzantine clients, helpless against a single one.

    Args:
        f: How many unusable rows (NaN, infinite) may be left out before the round fails; finite
            Byzantine rows are averaged like all others, so there is no kappa for f > 0, and it
            lacks `Facts.ROBUST`.

    Example:
        >>> import torch
        >>> Mean()(torch.tensor([[1.0, 2.0], [3.0, 6.0]]))
        tensor([2., 4.])
    """

    f: int = 0
    reads_gram: ClassVar[bool] = False
    lacks: ClassVar[Facts] = Facts.ROBUST

    def breakdown(self, n: int) -> int:
        """All rows but one may be missing."""
        return n - 1

    def kappa(self, n: int) -> float | None:  # noqa: ARG002
        """0 without Byzantine clients, none otherwise."""
        return 0.0 if self.f == 0 else None

    def _solve(self, G: FloatArray, removed: int, share: FloatArray | None) -> FloatArray:  # noqa: ARG002
        return np.full(len(G), 1 / len(G)) if share is None else share
