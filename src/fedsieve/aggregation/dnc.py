"""DnC, divide and conquer.

Shejwalkar, Houmansadr, "Manipulating the Byzantine: optimizing model poisoning attacks and defenses
for federated learning", NDSS 2021. ``num_iters`` times, on b coordinates sampled at random:

    mu = mean of the rows,  v the top right singular vector of the rows x_i - mu
    score_i = <x_i - mu, v>^2,  keep the n - c f rows of lowest score,

and the output is the mean, over all coordinates, of the rows that were kept every time.

The scores say little beside a row that is far beyond all others: mu and v are then its own, and the
others' scores the same up to rounding, so that a second such row, however far, could stay. Hence a
safeguard, which is not in the paper: with r_i the distance of row i to its (n - f)-th nearest row,
itself included, a row is set aside first, and is one of the c f, if

    r_i > 10 r,  r the (n - f)-th smallest of all r_i.

n - f honest rows have each other within their diameter, so r is at most that diameter, and the ball
of r_i has an honest row in it: every row that stays is within 10 honest diameters of one of them.
At most f rows are set aside, and none among rows of ordinary spread. Distances count all
coordinates: a row may be far only where no sample looks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedsieve._arguments import integer, real
from fedsieve.aggregation._blocks import BlockRule, Parts, joined
from fedsieve.aggregation._door import FloatArray, Rows
from fedsieve.aggregation._gram import gram, squared_distances, weighted_sum
from fedsieve.aggregation._spectral import spread
from fedsieve.aggregation._threads import added
from fedsieve.aggregation.rule import largest_share, minority
from fedsieve.registry import register

FAR = 10.0  # times what n - f rows are from their (n - f)-th nearest row


@register("rule", "dnc", paper='Shejwalkar, Houmansadr, "Manipulating the Byzantine", NDSS 2021')
@dataclass(frozen=True)
class DnC(BlockRule):
    """Divide and conquer: drops the outliers along the top direction of sampled coordinates.

    Rows far beyond all others, which would hide one another, are set aside before; see above. If
    one more iteration would leave nobody, the iterations stop before it. With client weights, the
    means are weighted; how many are kept counts every client alike.

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
        good = np.ones(n, dtype=bool)
        if f:
            whole, samples = self._grams(parts, k)
            near = _near(whole, f)
            q = p[near] / p[near].sum()
            keep = max(min(n - int(self.c * f), len(near)), 1)
            good = np.isin(np.arange(n), near)
            for G in samples:
                tau = spread(G[np.ix_(near, near)], q).tau
                lowest = near[np.argsort(tau, kind="stable")[:keep]]
                still = good & np.isin(np.arange(n), lowest)
                if not still.any():
                    break
                good = still
        w = np.where(good, p, 0)
        w = w / w.sum()
        return joined((weighted_sum(w, part.data) for part in parts()), k), w if explain else None

    def _grams(self, parts: Parts, k: int) -> tuple[FloatArray, Iterable[FloatArray]]:
        """The Gram of all coordinates and that of every sample, one where all are the same.

        All of them come from one pass.
        """
        if self.b >= k:
            whole = added(map(gram, parts()))
            return whole, [whole]
        rng = np.random.default_rng(self.seed)
        samples = [np.sort(rng.choice(k, self.b, replace=False)) for _ in range(self.num_iters)]
        whole, *sampled = added(
            np.stack([gram(part), *(_gram(part, at) for at in samples)]) for part in parts()
        )
        return whole, sampled


def _near(G: FloatArray, f: int) -> NDArray[np.intp]:
    """The rows that are not far beyond n - f others, in order: at least n - f of them."""
    most = len(G) - f
    reach = np.partition(squared_distances(G), most - 1, axis=1)[:, most - 1]
    return np.flatnonzero(reach <= FAR**2 * np.partition(reach, most - 1)[most - 1])


def _gram(rows: Rows, at: NDArray[np.intp]) -> FloatArray:
    """The Gram of those columns of the whole stack that are among the rows'."""
    if len(at := rows.within(at)) == 0:
        return np.zeros((len(rows.data), len(rows.data)))
    X = rows.data
    if X.device.type == "cpu":  # see `_threads`: torch's own would stand in the way of BLAS
        return gram(replace(rows, data=torch.from_numpy(X.numpy()[:, at])))
    return gram(replace(rows, data=X[:, torch.from_numpy(at).to(X.device)]))
