"""A random mask that the whole cohort shares.

Konecny, McMahan, Yu, Richtarik, Suresh, Bacon, "Federated Learning: Strategies for Improving
Communication Efficiency" (2016), random mask; shared by all clients as in RoSDHB, so that robust
rules compare like with like:

    A x = x_S,   S uniform among the k-subsets of {1..d},   E A^T A x = (k/d) x.

Not multiplied by d/k: clip, noise and momentum live in R^k, and the factor belongs to the step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedsieve.compression.projections._layered import LayeredSubspace
from fedsieve.compression.projections._settings import (
    TENTH,
    check_settings,
    check_size,
    generator,
)
from fedsieve.learning.layout import Entries, Layout
from fedsieve.registry import register


@register("projection", "random-mask", paper="Konecny et al. 2016")
@dataclass(frozen=True)
class RandomMask:
    """k coordinates of the model, drawn uniformly and shared by all clients.

    A random mask saves bytes and server time, not privacy budget: it captures the share k/d of the
    gradient's energy.

    Args:
        k: Numbers in a message, in 1..d; ``None``: a tenth of d.
        refresh: Rounds until the mask is drawn anew; 0: never, so only k parameters ever move.
            Momentum in R^k keeps only the overlap of two masks, so a mask should live about as
            long as the momentum's memory: 10 rounds for 0.9.

    Raises:
        ValueError: k or refresh out of range.
    """

    k: int | None = None
    refresh: int = 10

    def __post_init__(self) -> None:
        check_settings(self.k, self.refresh)

    def plan(
        self, layout: Layout, round: int, seed: int, history: Tensor | None
    ) -> LayeredSubspace:
        """The mask of this round.

        Raises:
            ValueError: k > d.
        """
        d = layout.d
        k = max(1, d // TENTH) if self.k is None else self.k
        check_size(k, 1, d, "d is the number of parameters")
        rng = generator(seed, round, self.refresh)
        chosen = np.sort(rng.choice(d, k, replace=False, shuffle=False))
        ends = np.searchsorted(chosen, [slot.stop for slot in layout.slots])
        maps = tuple(
            Entries(torch.from_numpy(part - slot.start))
            for part, slot in zip(np.split(chosen, ends[:-1]), layout.slots, strict=True)
        )
        return LayeredSubspace(layout, maps, unbiased=k == d)
