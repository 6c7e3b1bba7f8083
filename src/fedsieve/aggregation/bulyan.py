"""Bulyan of Krum.

El Mhamdi, Guerraoui, Rouault, "The hidden vulnerability of distributed learning in Byzantium",
ICML 2018. In two stages:

    (i)  theta = n - 2f times: run Krum on the messages that are left and select its winner;
    (ii) per coordinate, the mean of the beta = theta - 2f selected values nearest to their median,
         which is MeaMed.

At the last picks fewer messages are left than Krum itself would allow; a score is then over a
single neighbour, and the last message of all (f = 0) is picked without one. Two messages that are
each other's nearest then have the same score: the one comes first that Krum on all messages
prefers, so that the order of the clients does not matter.

With client weights of sum 1, of which f clients hold at most h, the counts above become masses, as
in Krum: messages are picked until they hold 1 - 2h, and of these the ones nearest to their weighted
median average that hold 1 - 4h, the last one in part. At most h of what was picked is Byzantine,
which is less than half of it and less than what stage (ii) leaves out: as in the paper, the median
lies among honest values, and no value that counts is farther from it than some honest one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedsieve.aggregation._blocks import BlockRule, Parts, joined
from fedsieve.aggregation._door import FloatArray, Rows
from fedsieve.aggregation._gram import gram, squared_distances
from fedsieve.aggregation._threads import added
from fedsieve.aggregation._ties import NEAR_TIE, ROUNDING, first_mass
from fedsieve.aggregation.krum import nearest_first
from fedsieve.aggregation.meamed import MeaMed
from fedsieve.aggregation.rule import largest_share
from fedsieve.registry import register


@register("rule", "bulyan", paper='El Mhamdi et al., "The hidden vulnerability", ICML 2018')
@dataclass(frozen=True)
class Bulyan(BlockRule):
    """Bulyan: selects n - 2f messages by repeated Krum, then averages around their median.

    With client weights, messages are counted by their weight in both stages, the last one in part;
    f clients must hold less than a quarter of it. This weighted form is not in the paper.

    Args:
        f: Number of Byzantine clients, n >= 4f + 3.

    Example:
        >>> stack = torch.tensor([[1.0], [2.0], [3.2], [2.1], [2.5], [1.6], [99.0]])
        >>> Bulyan(f=1)(stack)
        tensor([1.9000])
    """

    def breakdown(self, n: int) -> int:
        """N >= 4f + 3."""
        return max((n - 3) // 4, -1)

    def kappa(self, n: int) -> float | None:  # noqa: ARG002
        """0 for f = 0; otherwise none is known to us."""
        return 0.0 if self.f == 0 else None

    def weight_limit(self, n: int) -> float:  # noqa: ARG002
        """1/4: beyond, stage (ii) has nothing left to average."""
        return 0.25

    def _in_blocks(
        self, rows: Rows, parts: Parts, k: int, *, explain: bool
    ) -> tuple[Tensor, FloatArray | None]:
        n, f, share = len(rows.data), self.f - rows.removed, rows.share
        D = squared_distances(added(map(gram, parts())))
        around_median = MeaMed(2 * f)  # all but theta - beta
        if share is None:
            chosen = selected(D, f)
            reduce = partial(around_median._reduce, f=2 * f, share=None)
            kept = partial(around_median._kept, f=2 * f, share=None)
        else:
            most = largest_share(share, n, f, self.weight_limit(n))
            mass = selected_mass(D, share, most)
            chosen = np.flatnonzero(mass)
            by_mass: dict[str, Any] = {
                "share": mass[chosen] / mass.sum(),
                "trim": 2 * most / (1 - 2 * most),
            }
            reduce = partial(around_median._reduce_shares, **by_mass)
            kept = partial(around_median._kept_shares, **by_mass)
        told = np.zeros(n)

        def reduced() -> Iterator[Tensor]:
            for part in parts():
                X = part.data[torch.from_numpy(chosen).to(part.data.device)]
                if explain:
                    told[chosen] += kept(X)
                yield reduce(X)

        return joined(reduced(), k), told / k if explain else None


def selected(D: FloatArray, f: int) -> NDArray[np.intp]:
    """The n - 2f messages that repeated Krum selects, in the order of their indices."""
    n = len(D)
    D = D.copy()
    np.fill_diagonal(D, np.inf)
    order = np.argsort(D, axis=1, kind="stable")[:, : n - 1]  # oneself comes last
    D = np.take_along_axis(D, order, axis=1)
    at_first = D[:, : max(n - f - 2, 1)].sum(axis=1)
    left = np.ones(n, dtype=bool)
    for remaining in range(n, 2 * f, -1):
        others = left[order]
        near = others & (np.cumsum(others, axis=1) <= max(remaining - f - 2, 1))
        score = np.where(left, np.where(near, D, 0).sum(axis=1), np.inf)
        left[_first(score, at_first)] = False
    return np.flatnonzero(~left)


def selected_mass(D: FloatArray, share: FloatArray, most: float) -> FloatArray:
    """What repeated Krum by mass selects of every message's share, (n,), in all 1 - 2 most."""
    n, order, left = len(D), nearest_first(D), share.copy()
    picks: list[int] = []
    at_first: FloatArray | None = None
    while share[picks].sum() < (1 - 2 * most) * (1 - ROUNDING):
        amount = max(left.sum() - most - 1 / n, 2 / n)  # itself included
        score = (first_mass(order, left, amount) * D).sum(axis=1)
        at_first = score if at_first is None else at_first
        picks.append(_first(np.where(left > 0, score, np.inf), at_first))
        left[picks[-1]] = 0
    mass = np.zeros(n)
    mass[picks] = first_mass(np.arange(len(picks)), share[picks], 1 - 2 * most)
    return mass


def _first(score: FloatArray, at_first: FloatArray) -> int:
    """Who has the smallest score; of several, up to rounding, who had the smallest at first.

    Only of those who had the same at first, too, does the client of lowest number come first.
    """
    best = np.where(_least(score), at_first, np.inf)
    return int(np.argmax(_least(best)))


def _least(score: FloatArray) -> NDArray[np.bool_]:
    return np.asarray(score <= score.min() * (1 + NEAR_TIE))
