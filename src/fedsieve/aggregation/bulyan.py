"""Bulyan of Krum.

El Mhamdi, Guerraoui, Rouault, "The hidden vulnerability of distributed learning in Byzantium",
ICML 2018. In two stages:

    (i)  theta = n - 2f times: run Krum on the messages that are left and select its winner;
    (ii) per coordinate, the mean of the beta = theta - 2f selected values nearest to their median.

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
from fedsieve.aggregation._sorting import ranked
from fedsieve.aggregation.facts import Facts
from fedsieve.aggregation.rule import Rule
from fedsieve.registry import register

BLOCK = 1 << 18  # entries sorted at a time


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
        vector, shares = _around_median(rows.data, chosen, n - 4 * f, explain=explain)
        if shares is None:
            return vector, None
        told = np.zeros(n)
        told[chosen] = shares
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


def _around_median(
    X: Tensor, chosen: NDArray[np.intp], beta: int, *, explain: bool
) -> tuple[Tensor, FloatArray | None]:
    """Per coordinate the mean of the beta chosen values nearest to their median.

    In sorted order those values lie side by side, so there are theta - beta + 1 windows to compare.
    """
    theta, k = len(chosen), X.shape[1]
    at = torch.from_numpy(chosen).to(X.device)
    mean, shares = X.new_empty(k), np.zeros(theta)
    for start in range(0, k, width := max(BLOCK // theta, 1)):
        block = X[at, start : start + width]
        order = ranked(block)
        values = block.gather(0, order)
        median = (values[(theta - 1) // 2] / 2 + values[theta // 2] / 2)[None]
        # the farther end of each window; the window with the nearest such end holds the nearest
        reach = torch.maximum(median - values[: theta - beta + 1], values[beta - 1 :] - median)
        first = reach.argmin(dim=0)
        window = first + torch.arange(beta, device=X.device)[:, None]
        mean[start : start + width] = (values.gather(0, window) / beta).sum(dim=0)
        if explain:
            kept = order.gather(0, window).flatten()
            shares += np.bincount(kept.cpu().numpy(), minlength=theta) / beta
    return mean, shares / k if explain else None
