"""Bulyan of Krum.

El Mhamdi, Guerraoui, Rouault, "The hidden vulnerability of distributed learning in Byzantium",
ICML 2018. In two stages:

    (i)  theta = n - 2f times: run Krum on the messages that are left and select its winner;
    (ii) per coordinate, the mean of the beta = theta - 2f selected values nearest to their median,
         which is MeaMed.

At the last picks fewer messages are left than Krum itself would allow; a score is then over a
single neighbour, and the last message of all (f = 0) is picked without one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedsieve.aggregation._door import FloatArray, Rows
from fedsieve.aggregation._gram import gram, squared_distances
from fedsieve.aggregation.facts import Facts
from fedsieve.aggregation.meamed import MeaMed
from fedsieve.aggregation.rule import Rule
from fedsieve.registry import register


@register("rule", "bulyan", paper='El Mhamdi et al., "The hidden vulnerability", ICML 2018')
@dataclass(frozen=True)
class Bulyan(Rule):
    """Bulyan: selects n - 2f messages by repeated Krum, then averages around their median.

    Has no place for client weights.

    Args:
        f: Number of Byzantine clients, n >= 4f + 3.

    Example:
        >>> stack = torch.tensor([[1.0], [2.0], [3.0], [2.0], [2.5], [1.5], [99.0]])
        >>> Bulyan(f=1)(stack)
        tensor([2.1667])
    """

    lacks: ClassVar[Facts] = Facts.WEIGHTED

    def breakdown(self, n: int) -> int:
        """N >= 4f + 3."""
        return max((n - 3) // 4, -1)

    def kappa(self, n: int) -> float | None:  # noqa: ARG002
        """0 for f = 0; otherwise none is known to us."""
        return 0.0 if self.f == 0 else None

    def _combine(self, rows: Rows, *, explain: bool) -> tuple[Tensor, FloatArray | None]:
        n, f = len(rows.data), self.f - rows.removed
        chosen = selected(squared_distances(gram(rows)), f)
        X = rows.data[torch.from_numpy(chosen).to(rows.data.device)]
        around_median = MeaMed(2 * f)  # all but theta - beta
        vector = around_median._reduce(X, 2 * f, None)
        if not explain:
            return vector, None
        told = np.zeros(n)
        told[chosen] = around_median._kept(X, 2 * f, None) / X.shape[1]
        return vector, told


def selected(D: FloatArray, f: int) -> NDArray[np.intp]:
    """The n - 2f messages that repeated Krum selects, in the order of their indices."""
    n = len(D)
    D = D.copy()
    np.fill_diagonal(D, np.inf)
    order = np.argsort(D, axis=1, kind="stable")[:, : n - 1]  # oneself comes last
    D = np.take_along_axis(D, order, axis=1)
    left = np.ones(n, dtype=bool)
    for remaining in range(n, 2 * f, -1):
        others = left[order]
        near = others & (np.cumsum(others, axis=1) <= max(remaining - f - 2, 1))
        score = np.where(left, np.where(near, D, 0).sum(axis=1), np.inf)
        left[np.argmin(score)] = False
    return np.flatnonzero(~left)
