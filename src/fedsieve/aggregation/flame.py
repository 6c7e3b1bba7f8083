"""FLAME.

Nguyen et al., "FLAME: taming backdoors in federated learning", USENIX Security 2022.

    c_ij = 1 - cos(x_i, x_j),  A = the cluster that HDBSCAN(min_cluster_size = floor(n/2) + 1,
           min_samples = 1, allow_single_cluster) finds in the distances c
    S = median_i ||x_i||
    R(x) = (1/|A|) sum_{i in A} min(1, S / ||x_i||) x_i + N(0, (lambda S)^2 I)

A cluster of more than half of the rows never splits into two such clusters, so HDBSCAN comes down
to single linkage: A is the first of its clusters, from the bottom up, that holds a majority.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from torch import Tensor

from fedsieve._arguments import integer, real
from fedsieve.aggregation._blocks import BlockRule, Parts, joined
from fedsieve.aggregation._door import FloatArray, Rows
from fedsieve.aggregation._gram import gram, origin, squared_distances, weighted_sum
from fedsieve.aggregation._threads import added
from fedsieve.aggregation._ties import NEAR_TIE
from fedsieve.aggregation.clipping import shortening
from fedsieve.aggregation.facts import Facts
from fedsieve.aggregation.rule import largest_share, minority
from fedsieve.registry import register


@register("rule", "flame", paper='Nguyen et al., "FLAME", USENIX Security 2022')
@dataclass(frozen=True)
class FLAME(BlockRule):
    """FLAME: clips the majority cluster of directions to the median norm, and may add noise.

    The cluster does not depend on f. Short messages that point the way of the others belong to it,
    so that the error is bounded by the honest messages' length, not by their spread: it lacks
    `Facts.ROBUST`. With client weights, the mean is weighted; cluster and median norm count every
    client alike.

    Args:
        f: Number of Byzantine clients, 2f < n.
        lambda_: Standard deviation of the noise over the median norm, >= 0; 0 adds none. This
            noise blurs backdoors; it is no privacy mechanism.
        seed: Of the noise, an integer >= 0. The same stack gives the same result; give every round
            another seed.

    Raises:
        ValueError: An argument out of range, or at the first use 2f >= n.

    Example:
        >>> FLAME(f=1)(torch.tensor([[1.0, 0.0], [2.0, 0.1], [2.0, 0.0], [-9.0, 9.0]]))
        tensor([1.6663, 0.0333])
    """

    lambda_: float = 0.0
    seed: int = 0
    lacks: ClassVar[Facts] = Facts.TRANSLATES | Facts.CONVEX | Facts.AVERAGES | Facts.ROBUST

    def __post_init__(self) -> None:
        super().__post_init__()
        real(self, "lambda_", least=0)
        integer(self, "seed")

    @property
    def facts(self) -> Facts:
        """With noise, even equal messages do not come out as they went in."""
        return super().facts & ~(Facts.UNANIMOUS if self.lambda_ else Facts.NONE)

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
        c, norms = cosine_distances(added(gram(part, origin(part)) for part in parts()))
        S = float(np.median(norms))
        A = majority(c)
        w = np.zeros(n)
        w[A] = p[A] / p[A].sum() * shortening(norms, S)[A]
        noise = np.random.default_rng(self.seed)

        def pieces() -> Iterator[Tensor]:
            for part in parts():
                piece = weighted_sum(w, part.data)
                if self.lambda_:
                    drawn = noise.normal(size=len(piece))  # goes on where the last block ended
                    piece += torch.from_numpy(drawn * (self.lambda_ * S * rows.scale)).to(piece)
                yield piece

        return joined(pieces(), k), w if explain else None


def cosine_distances(G: FloatArray) -> tuple[FloatArray, FloatArray]:
    """1 - cos of the angles at the last point, (m, m), and distances to it, (m,).

    The cosine of a row of length 0 is 0. Rows near each other get their small angle from their
    distance, which has more digits: 2 |x| |y| (1 - cos) = |x - y|^2 - (|x| - |y|)^2.
    """
    D = squared_distances(G)
    relative = (np.diagonal(G) - 2 * G[-1])[:-1]  # squared lengths, up to one constant
    norms = np.sqrt(D[-1, :-1])
    D = D[:-1, :-1]
    product = norms[:, None] * norms
    inner = G[:-1, :-1] - G[-1, :-1, None] - G[-1, :-1] + G[-1, -1]
    safe = np.where(product > 0, product, 1)
    gap = np.zeros_like(D)  # not read where a length is 0: beside it a far row's would overflow
    np.divide(relative[:, None] - relative, norms[:, None] + norms, out=gap, where=product > 0)
    c = np.where(product > D, (D - gap**2) / (2 * safe), 1 - inner / safe)
    c = np.where(product > 0, np.clip(c, 0, 2), 1.0)
    np.fill_diagonal(c, 0)
    return c, norms


def majority(c: FloatArray) -> NDArray[np.intp]:
    """The first single-linkage cluster with more than half of the points, (m,) positions."""
    if len(c) == 1:
        return np.array([0])
    tree = linkage(squareform((c + c.T) / 2), "single")
    reach = tree[np.argmax(tree[:, 3] > len(c) / 2), 2]
    labels = fcluster(tree, reach * (1 + NEAR_TIE), criterion="distance")
    return np.flatnonzero(labels == np.bincount(labels).argmax())
