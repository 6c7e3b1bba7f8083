"""The largest numbers alone.

Alistarh, Hoefler, Johansson, Khirirat, Konstantinov, Renggli, "The Convergence of Sparsified
Gradient Methods", NeurIPS 2018:

    C(x)_j = x_j for the k largest |x_j|, else 0,    ||C(x) - x||^2 <= (1 - k/d) ||x||^2.

Which numbers are the largest is information about x: code only what the noise has already made
private.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from fedsieve.compression.codecs._numbers import to_numpy, to_tensor
from fedsieve.compression.codecs.wire import (
    HEADER,
    Code,
    Header,
    Type,
    WireError,
    frame,
    require_finite,
    require_length,
    unframe,
)
from fedsieve.registry import register


@register("codec", "top-k", paper="Alistarh et al. 2018")
@dataclass(frozen=True)
class TopK:
    """A share of the numbers, the largest, with their places; biased.

    The places travel as a bitmap or as 32-bit indices, whichever is shorter for the given sizes.

    Args:
        share: Share of the numbers that is kept, rounded up, in (0, 1].

    Raises:
        ValueError: share out of range.

    Example:
        >>> import torch
        >>> code, x = TopK(share=0.5), torch.tensor([1.0, -3.0, 0.5, 2.0])
        >>> code.decode(code.encode(x, np.random.default_rng(0)))
        tensor([ 0., -3.,  0.,  2.])
    """

    share: float = 0.1
    lossless: ClassVar[bool] = False
    data_dependent: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share={self.share} must be in (0, 1]")

    def kept(self, d: int) -> int:
        """How many of d numbers are sent."""
        return math.ceil(self.share * d)

    def encode(self, x: Tensor, key: np.random.Generator) -> bytes:  # noqa: ARG002 - no dither
        """The bytes of a vector (k,)."""
        numbers = to_numpy(x)
        size = len(numbers)
        count = self.kept(size)
        # NaN sorts as the largest, so it is sent and the receiver refuses it
        places = np.sort(np.argpartition(np.abs(numbers), size - count)[size - count :])
        if _as_bitmap(size, count):
            mask = np.zeros(size, dtype=bool)
            mask[places] = True
            where = np.packbits(mask).tobytes()
        else:
            where = places.astype("<u4").tobytes()
        header = Header(Code.TOP_K, Type.FLOAT32, size, count)
        return frame(header, where, numbers[places].tobytes())

    def decode(self, data: bytes, size: int | None = None) -> Tensor:
        """The vector (k,), zero where nothing was sent.

        Raises:
            WireError: Not such a message, of another size or share, with impossible places, or not
                finite.
        """
        header, body = unframe(data, Code.TOP_K, Type.FLOAT32, size)
        if header.count != self.kept(header.size):
            raise WireError(
                f"{header.count} of {header.size} numbers were sent, share={self.share} expects "
                f"{self.kept(header.size)}"
            )
        split = _places_bytes(header.size, header.count)
        require_length(body, split + 4 * header.count)
        places = _places(body[:split], header.size, header.count)
        numbers = np.zeros(header.size, dtype=np.float32)
        numbers[places] = require_finite(np.frombuffer(body[split:], "<f4"))
        return to_tensor(numbers)

    def omega(self, d: int) -> float:  # noqa: ARG002
        """Biased: infinite."""
        return math.inf

    def alpha(self, d: int) -> float:
        """At least the share that is kept."""
        return self.kept(d) / d if d else 1.0

    def wire_bits(self, d: int) -> int:
        """Header, places, and 32 bits for each number sent."""
        count = self.kept(d)
        return 8 * (HEADER.size + _places_bytes(d, count) + 4 * count)


def _as_bitmap(size: int, count: int) -> bool:
    return (size + 7) // 8 <= 4 * count or size > 2**32


def _places_bytes(size: int, count: int) -> int:
    return (size + 7) // 8 if _as_bitmap(size, count) else 4 * count


def _places(body: memoryview, size: int, count: int) -> np.ndarray:
    if _as_bitmap(size, count):
        mask = np.unpackbits(np.frombuffer(body, np.uint8))
        places = np.flatnonzero(mask)
    else:
        places = np.frombuffer(body, "<u4").astype(np.int64)
    valid = len(places) == count and (not count or int(places[-1]) < size)
    if not valid or bool(np.any(np.diff(places) <= 0)):
        raise WireError(f"the places are not {count} increasing numbers below {size}")
    return places
