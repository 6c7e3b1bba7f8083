"""Random directions of every layer's input.

Johnson, Lindenstrauss, "Extensions of Lipschitz mappings into a Hilbert space" (1984), applied
layer by layer with orthonormal columns:

    G -> G Q,   Q = orth(Gaussian (inputs, r)),   E Q Q^T = (r / inputs) I.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedsieve.compression.projections._layered import LayeredSubspace
from fedsieve.compression.projections._settings import check_settings, common_rank, generator
from fedsieve.learning.layout import InputBasis, Keep, LayerMap, Layout
from fedsieve.registry import register


@register("projection", "random-basis", paper="Johnson, Lindenstrauss 1984")
@dataclass(frozen=True)
class RandomBasis:
    """Random orthonormal directions of every layer's input; layers with few inputs whole.

    Args:
        k: Numbers in a message, at most; the largest common rank that fits is taken.
            ``None``: a tenth of d.
        refresh: Rounds until the directions are drawn anew; 0: never.

    Raises:
        ValueError: k or refresh out of range.
    """

    k: int | None = None
    refresh: int = 0

    def __post_init__(self) -> None:
        check_settings(self.k, self.refresh)

    def plan(
        self, layout: Layout, round: int, seed: int, history: Tensor | None
    ) -> LayeredSubspace:
        """The directions of this round.

        Raises:
            ValueError: k is too small or too large for the model.
        """
        r = common_rank(layout, self.k)
        rng = generator(seed, round, self.refresh)
        maps: list[LayerMap] = []
        for slot in layout.slots:
            inputs = slot.matrix[1]
            if inputs <= r:
                maps.append(Keep())
            else:
                basis, _ = np.linalg.qr(rng.standard_normal((inputs, r)))
                maps.append(InputBasis(torch.from_numpy(basis).float()))
        return LayeredSubspace(layout, tuple(maps), unbiased=all(m == Keep() for m in maps))
