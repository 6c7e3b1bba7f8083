"""SignGuard.

Xu, Huang, Song, Lan, "Byzantine-robust federated learning through collaborative malicious gradient
filtering", ICDCS 2022. With M = median_i ||x_i||:

    S_1 = {i : L <= ||x_i|| / M <= R}
    S_2 = the largest cluster that mean shift finds among the rows' shares of positive, zero and
          negative signs on coordinates sampled at random
    R(x) = mean over i in S_1 and S_2 of min(1, M / ||x_i||) x_i

Mean shift moves every point to the mean of the points within its bandwidth until it rests, and
the bandwidth is the mean distance to the farthest of the nearest half of the points.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from torch import Tensor

from fedsieve._arguments import integer, real
from fedsieve.aggregation._blocks import BlockRule, Parts, joined
from fedsieve.aggregation._door import FloatArray, Rows, TooManyFaultyClients
from fedsieve.aggregation._gram import weighted_sum
from fedsieve.aggregation._mixing import squared_lengths
from fedsieve.aggregation._threads import added, summed
from fedsieve.aggregation.clipping import shortening
from fedsieve.aggregation.facts import Facts
from fedsieve.aggregation.rule import largest_share, minority
from fedsieve.registry import register

SHIFTS = 300  # at most; points rest after a few
ROUNDING = 1e-12  # of shares of signs, which lie in [0, 1]


@register("rule", "sign-guard", paper='Xu et al., "SignGuard", ICDCS 2022')
@dataclass(frozen=True)
class SignGuard(BlockRule):
    """SignGuard: keeps messages of ordinary length and ordinary signs, clipped to the median norm.

    The filters do not depend on f. Messages of ordinary signs down to L times the median norm pass
    them, so that the error is bounded by the honest messages' length, not by their spread: it lacks
    `Facts.ROBUST`. With client weights, the mean is weighted; the filters count every client alike.

    Args:
        f: Number of Byzantine clients, 2f < n.
        L: Smallest norm kept, over the median norm, in [0, 1].
        R: Largest norm kept, over the median norm, >= 1.
        fraction: Share of the coordinates whose signs are looked at, in (0, 1].
        seed: Of their choice, an integer >= 0. The same stack gives the same result; give every
            round another seed, unknown to the clients until they have sent their messages.

    Raises:
        ValueError: An argument out of range, or at the first use 2f >= n.
        TooManyFaultyClients: No message passes both filters.

    Example:
        >>> SignGuard(f=1)(torch.tensor([[1.0], [2.0], [3.0], [2.0], [99.0]]))
        tensor([1.7500])
    """

    L: float = 0.1
    R: float = 3.0
    fraction: float = 0.1
    seed: int = 0
    lacks: ClassVar[Facts] = Facts.TRANSLATES | Facts.CONVEX | Facts.AVERAGES | Facts.ROBUST

    def __post_init__(self) -> None:
        super().__post_init__()
        real(self, "L", least=0, most=1)
        real(self, "R", least=1)
        real(self, "fraction", above=0, most=1)
        integer(self, "seed")

    def breakdown(self, n: int) -> int:
        """2f < n."""
        return minority(n)

    def kappa(self, n: int) -> float | None:  # noqa: ARG002
        """None: the error depends on where the origin is."""
        return None

    def _in_blocks(
        self, rows: Rows, parts: Parts, k: int, *, explain: bool
    ) -> tuple[Tensor, FloatArray | None]:
        n = len(rows.data)
        largest_share(rows.share, n, self.f - rows.removed)
        p = np.full(n, 1 / n) if rows.share is None else rows.share
        size = ceil(self.fraction * k)
        at = np.sort(np.random.default_rng(self.seed).choice(k, size, replace=False))
        seen = added(
            np.column_stack([squared_lengths(part.data, part.scale), _signs(part, at)])
            for part in parts()
        )
        norms, positive, negative = np.sqrt(seen[:, 0]), seen[:, 1], seen[:, 2]
        M = float(np.median(norms))
        good = (norms >= self.L * M) & (norms <= self.R * M)
        shares = np.stack([positive, size - positive - negative, negative], axis=1) / size
        good &= np.isin(np.arange(n), largest_cluster(shares))
        if not good.any():
            raise TooManyFaultyClients(f"no message passes both filters of {self!r}")
        w = np.where(good, p * shortening(norms, M) / p[good].sum(), 0)
        vector = joined((weighted_sum(w, part.data) for part in parts()), k)
        return vector, w if explain else None


def _signs(rows: Rows, at: NDArray[np.intp]) -> FloatArray:
    """Numbers of positive and negative values on the sampled coordinates, (m, 2)."""
    X, at = rows.data, rows.within(at)

    def work(start: int, stop: int) -> FloatArray:
        if X.device.type == "cpu":
            values = X.numpy()[:, at[start:stop]]
            counts = [np.count_nonzero(part, axis=1) for part in (values > 0, values < 0)]
        else:
            picked = X[:, torch.from_numpy(at[start:stop]).to(X.device)]
            counts = [part.sum(dim=1).cpu().numpy() for part in (picked > 0, picked < 0)]
        return np.stack(counts, axis=1).astype(np.float64)

    return summed(work, len(at), len(X)) if len(at) else np.zeros((len(X), 2))


def bandwidth(points: FloatArray) -> float:
    """Mean distance to the farthest of the nearest half of all points, oneself included."""
    half = max(len(points) // 2, 1)
    return float(np.sort(cdist(points, points), axis=1)[:, half - 1].mean())


def largest_cluster(points: FloatArray) -> NDArray[np.intp]:
    """Positions of the largest cluster of mean shift with a flat kernel."""
    reach = bandwidth(points) + ROUNDING
    centres = points
    for _ in range(SHIFTS):
        near = cdist(centres, points) <= reach
        moved = near @ points / near.sum(axis=1, keepdims=True)
        still = np.abs(moved - centres).max() <= ROUNDING
        centres = moved
        if still:
            break
    # of centres within one reach of each other, the one with the most points stays
    order = np.lexsort((*np.round(-centres.T, 9)[::-1], -near.sum(axis=1)))
    kept: list[int] = []
    for i in order:
        if not kept or cdist(centres[[i]], centres[kept]).min() > reach:
            kept.append(int(i))
    labels = cdist(points, centres[kept]).argmin(axis=1)
    return np.flatnonzero(labels == np.bincount(labels).argmax())
