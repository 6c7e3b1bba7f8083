"""Input directions learned from what has been released.

The subspace that gradients share changes slowly (Zhao, Zhang, Chen, Wang, Anandkumar, Tian,
"GaLore: Memory-Efficient LLM Training by Gradient Low-Rank Projection", ICML 2024). There the basis
comes from the raw gradient, which would not be private; here it comes only from H, the exponential
average of the released and lifted aggregates, so planning is free post-processing:

    G -> G Q,   Q = orth([ top right singular directions of H | fresh Gaussian directions ]).

The fresh directions are needed: H has no energy outside the subspaces it was released in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedsieve.compression.projections._layered import LayeredSubspace
from fedsieve.compression.projections._settings import check_settings, common_rank, generator
from fedsieve.learning.layout import InputBasis, Keep, LayerMap, Layout
from fedsieve.registry import register

NEGLIGIBLE = 1e-6
"""A direction with less than this share of the largest singular value is rounding."""


@register("projection", "low-rank", paper="after GaLore, Zhao et al. 2024")
@dataclass(frozen=True)
class LowRank:
    """The input directions of every layer that released aggregates point to, and some new ones.

    Args:
        k: Numbers in a message, at most; the largest common rank that fits is taken.
            ``None``: a tenth of d.
        refresh: Rounds until the directions are learned anew; 0: never, so they stay random.
        exploration: Share of the directions that are fresh and random, in (0, 1].

    Raises:
        ValueError: k, refresh or exploration out of range.
    """

    k: int | None = None
    refresh: int = 10
    exploration: float = 0.25

    def __post_init__(self) -> None:
        check_settings(self.k, self.refresh)
        if not 0 < self.exploration <= 1:
            raise ValueError(f"exploration={self.exploration} must be in (0, 1]")

    @property
    def learns(self) -> bool:
        """Whether `plan` reads the history."""
        return self.refresh > 0

    def plan(
        self, layout: Layout, round: int, seed: int, history: Tensor | None
    ) -> LayeredSubspace:
        """The directions of this round; random ones as long as nothing was released.

        Raises:
            ValueError: k is too small or too large for the model.
        """
        r = common_rank(layout, self.k)
        rng = generator(seed, round, self.refresh)
        fresh = max(1, math.ceil(self.exploration * r))
        maps: list[LayerMap] = []
        for slot in layout.slots:
            inputs = slot.matrix[1]
            if inputs <= r:
                maps.append(Keep())
                continue
            learned = np.empty((inputs, 0))
            if history is not None and self.learns:
                released = history[slot.start : slot.stop].detach().view(slot.matrix)
                learned = _top_directions(released.cpu().double().numpy(), r - fresh)
            random = rng.standard_normal((inputs, r - learned.shape[1]))
            basis, _ = np.linalg.qr(np.hstack([learned, random]))
            maps.append(InputBasis(torch.from_numpy(basis).float()))
        return LayeredSubspace(layout, tuple(maps), unbiased=all(m == Keep() for m in maps))


def _top_directions(matrix: np.ndarray, count: int) -> np.ndarray:
    """At most ``count`` leading right singular vectors as columns, none of a zero matrix."""
    _, values, rows = np.linalg.svd(matrix, full_matrices=False)
    known = int(np.sum(values > NEGLIGIBLE * max(values[0], np.finfo(float).tiny)))
    return rows[: min(count, known)].T
