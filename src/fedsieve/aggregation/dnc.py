"""DnC, divide and conquer.

Shejwalkar, Houmansadr, "Manipulating the Byzantine: optimizing model poisoning attacks and defenses
for federated learning", NDSS 2021. ``num_iters`` times, on b coordinates sampled at random:

    mu = mean of the rows,  v the top right singular vector of the rows x_i - mu
    score_i = <x_i - mu, v>^2,  keep the n - c f rows of lowest score,

and the output is the mean, over all coordinates, of the rows that were kept every time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedsieve._arguments import integer, real
from fedsieve.aggregation._blocks import BlockRule, Parts, joined
from fedsieve.aggregation._door import FloatArray, Rows
from fedsieve.aggregation._gram import gram, weighted_sum
from fedsieve.aggregation._spectral import spread
from fedsieve.aggregation._threads import added
from fedsieve.aggregation.facts import Facts
from fedsieve.aggregation.rule import largest_share, minority
from fedsieve.registry import register


@register("rule", "dnc", paper='Shejwalkar, Houmansadr, "Manipulating the Byzantine", NDSS 2021')
@dataclass(frozen=True)
class DnC(BlockRule):
    """Divide and conquer: drops the outliers along the top direction of sampled coordinates.

    One pass about the mean: of rows at very different distances, the farthest hide the others. Rows
    some 1e12 times as far as the others leave no digit of float64 that tells the others' scores
    apart; which of them are dropped besides, to make up c f, is then left to rounding. If
    one more iteration would leave nobody, the iterations stop before it. With client weights,
    the means are weighted; how many are kept counts every client alike.

    Args:
        f: Number of Byzantine clients, 2f < n and c f < n.
        num_iters: Samples of coordinates, >= 1.
        b: Coordinates in a sample, >= 1; all of them if there are no more.
        c: Rows dropped per sample and Byzantine client, > 0.
        seed: Of the samples, an integer >= 0. The same stack gives the same result; give every
            round another seed, unknown to the clients until they have sent their messages.

    Raises:
        ValueError: An argument out of range, or at the first use an f above ``breakdown(n)``.

    Example:
        >>> DnC(f=1)(torch.tensor([[1.0], [2.0], [3.0], [2.0], [99.0]]))
        tensor([2.])
    """

    num_iters: int = 5
    b: int = 10_000
    c: float = 1.0
    seed: int = 0
    lacks: ClassVar[Facts] = Facts.ROBUST  # rows far away may hide others half as far away

    def __post_init__(self) -> None:
        super().__post_init__()
        integer(self, "num_iters", 1)
        integer(self, "b", 1)
        real(self, "c", above=0)
        integer(self, "seed")

    def breakdown(self, n: int) -> int:
        """2f < n and c f < n."""
        return int(min(minority(n), np.ceil(n / self.c) - 1))  # n / c may be infinite

    def kappa(self, n: int) -> float | None:  # noqa: ARG002
        """0 for f = 0; the literature has none otherwise."""
        return 0.0 if self.f == 0 else None

    def _in_blocks(
        self, rows: Rows, parts: Parts, k: int, *, explain: bool
    ) -> tuple[Tensor, FloatArray | None]:
        n, f = len(rows.data), self.f - rows.removed
        largest_share(rows.share, n, f)
        p = np.full(n, 1 / n) if rows.share is None else rows.share
        keep = max(n - int(self.c * f), 1)
        good = np.ones(n, dtype=bool)
        for G in self._grams(parts, k) if f else []:
            lowest = np.argsort(spread(G, p).tau, kind="stable")[:keep]
            still = good & np.isin(np.arange(n), lowest)
            if not still.any():
                break
            good = still
        w = np.where(good, p, 0)
        w = w / w.sum()
        return joined((weighted_sum(w, part.data) for part in parts()), k), w if explain else None

    def _grams(self, parts: Parts, k: int) -> Iterable[FloatArray]:
        """The Gram of every sample, all of them from one pass; one where all are the same."""
        if self.b >= k:
            return [added(map(gram, parts()))]
        rng = np.random.default_rng(self.seed)
        samples = [np.sort(rng.choice(k, self.b, replace=False)) for _ in range(self.num_iters)]
        return added(np.stack([_gram(part, at) for at in samples]) for part in parts())


def _gram(rows: Rows, at: NDArray[np.intp]) -> FloatArray:
    """The Gram of those columns of the whole stack that are among the rows'."""
    if len(at := rows.within(at)) == 0:
        return np.zeros((len(rows.data), len(rows.data)))
    X = rows.data
    if X.device.type == "cpu":  # see `_threads`: torch's own would stand in the way of BLAS
        return gram(replace(rows, data=torch.from_numpy(X.numpy()[:, at])))
    return gram(replace(rows, data=X[:, torch.from_numpy(at).to(X.device)]))
