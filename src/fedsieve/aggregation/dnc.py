"""DnC, divide and conquer.

Shejwalkar, Houmansadr, "Manipulating the Byzantine: optimizing model poisoning attacks and defenses
for federated learning", NDSS 2021. ``num_iters`` times, on b coordinates sampled at random:

    mu = mean of the rows,  v the top right singular vector of the rows x_i - mu
    score_i = <x_i - mu, v>^2,  keep the n - c f rows of lowest score,

and the output is the mean, over all coordinates, of the rows that were kept every time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedsieve._arguments import integer, real
from fedsieve.aggregation._door import FloatArray, Rows
from fedsieve.aggregation._gram import gram, weighted_sum
from fedsieve.aggregation._spectral import spread
from fedsieve.aggregation.facts import Facts
from fedsieve.aggregation.rule import Rule, largest_share, minority
from fedsieve.registry import register


@register("rule", "dnc", paper='Shejwalkar, Houmansadr, "Manipulating the Byzantine", NDSS 2021')
@dataclass(frozen=True)
class DnC(Rule):
    """Divide and conquer: drops the outliers along the top direction of sampled coordinates.

    One pass about the mean: of rows at very different distances, the farthest hide the others. If
    one more iteration would leave nobody, the iterations stop before it. With client weights,
    the means are weighted and a client that weighs nothing is not counted.

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

    def _combine(self, rows: Rows, *, explain: bool) -> tuple[Tensor, FloatArray | None]:  # noqa: ARG002
        (n, k), f = rows.data.shape, self.f - rows.removed
        largest_share(rows.share, n, f)
        p = np.full(n, 1 / n) if rows.share is None else rows.share
        heard = np.flatnonzero(p)
        keep = max(len(heard) - int(self.c * f), 1)
        good = p > 0
        samples = np.random.default_rng(self.seed)
        for _ in range(self.num_iters if f else 0):
            at = np.sort(samples.choice(k, self.b, replace=False)) if self.b < k else None
            scores = spread(gram(_columns(rows, at)), p).tau[heard]
            lowest = heard[np.argsort(scores, kind="stable")[:keep]]
            still = good & np.isin(np.arange(n), lowest)
            if not still.any():
                break
            good = still
            if at is None:  # every sample is the same
                break
        w = np.where(good, p, 0)
        w = w / w.sum()
        return weighted_sum(w, rows.data), w


def _columns(rows: Rows, at: NDArray[np.intp] | None) -> Rows:
    if at is None:
        return rows
    X = rows.data
    if X.device.type == "cpu":  # see `_threads`: torch's own would stand in the way of BLAS
        return replace(rows, data=torch.from_numpy(X.numpy()[:, at]))
    return replace(rows, data=X[:, torch.from_numpy(at).to(X.device)])
