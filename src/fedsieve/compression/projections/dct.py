"""Low frequencies of images.

The discrete cosine transform (Ahmed, Natarajan, Rao, "Discrete Cosine Transform", IEEE Transactions
on Computers 1974) of the input dimension of the first linear layer: with C_u[h] = a_u cos(pi (2h+1)
u / 2H), a_0 = sqrt(1/H), a_u = sqrt(2/H), the columns q_{uv} = C_u (x) C_v are orthonormal, and

    G -> G Q,   Q = the r lowest frequencies of every channel,  G the gradient (outputs, pixels).

Neighbouring pixels are alike, so the gradient's energy lies in the low frequencies; the basis is
public knowledge about images and costs no privacy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedsieve.compression.projections._layered import LayeredSubspace
from fedsieve.compression.projections._settings import check_settings, check_size, largest
from fedsieve.learning.layout import InputBasis, Keep, Layout, Slot
from fedsieve.registry import register

SHARE = 12
"""Where k is left open, one frequency in so many is kept (65 of 784 for a 28 x 28 image).

`benchmarks/learning_rates.py` compared 1/6, 1/12 and 1/24 on records held back from training."""


@register("projection", "dct", paper="Ahmed, Natarajan, Rao 1974")
@dataclass(frozen=True)
class Dct:
    """The lowest cosine frequencies of the image that a linear layer sees; other layers whole.

    Args:
        k: Numbers in a message, at most; the largest number of frequencies that fits is taken.
            ``None``: a twelfth of the frequencies.
        refresh: Without effect: the basis is the same in every round.

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
        """The basis for this model.

        Raises:
            ValueError: No image goes into a linear layer, or k is too small or too large.
        """
        slot, (channels, height, width) = _image_layer(layout)
        kept, step = layout.d - slot.size, slot.matrix[0] * channels
        pixels = height * width
        if self.k is None:
            r = max(1, pixels // SHARE)
        else:
            why = f"all of {kept} other parameters and {step} numbers for each frequency"
            check_size(self.k, kept + step, layout.d, why)
            wanted = self.k
            r = largest(lambda r: kept + step * r <= wanted, pixels)
        basis = torch.from_numpy(cosine_basis(channels, height, width, r)).float()
        maps = tuple(InputBasis(basis) if s is slot else Keep() for s in layout.slots)
        return LayeredSubspace(layout, maps)


def cosine_basis(channels: int, height: int, width: int, r: int) -> np.ndarray:
    """The r lowest frequencies of each channel, (channels height width, channels r).

    Frequencies are ordered by (u/height)^2 + (v/width)^2, then by u.
    """
    order = sorted(
        ((u, v) for u in range(height) for v in range(width)),
        key=lambda f: ((f[0] * width) ** 2 + (f[1] * height) ** 2, f[0]),
    )
    rows, columns = _cosines(height), _cosines(width)
    one = np.stack([np.outer(rows[u], columns[v]).ravel() for u, v in order[:r]], axis=1)
    return np.kron(np.eye(channels), one)


def _cosines(size: int) -> np.ndarray:
    h, u = np.arange(size), np.arange(size)[:, None]
    table: np.ndarray = math.sqrt(2 / size) * np.cos(np.pi * (2 * h + 1) * u / (2 * size))
    table[0] /= math.sqrt(2)
    return table


def _image_layer(layout: Layout) -> tuple[Slot, tuple[int, int, int]]:
    shape = layout.input_shape
    if len(shape) == 2:
        shape = (1, *shape)
    if len(shape) == 3:
        for slot in layout.slots:
            if len(slot.shape) == 2 and slot.matrix[1] == math.prod(shape):
                return slot, (shape[0], shape[1], shape[2])
    found = "no linear layer sees its pixels" if len(shape) == 3 else "it is not an image"
    raise ValueError(
        f"projection.name='dct' needs an image that goes into a linear layer; the input has shape "
        f"{layout.input_shape} and {found}. Use 'low-rank' or 'random-mask' for this model"
    )
