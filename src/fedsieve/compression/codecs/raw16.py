"""The numbers as bfloat16, rounded without bias.

Gupta, Agrawal, Gopalakrishnan, Narayanan, "Deep Learning with Limited Numerical Precision",
ICML 2015, stochastic rounding: with a <= |x| <= b the neighbouring bfloat16 numbers,

    |C(x)| = b with probability (|x| - a) / (b - a), else a,

so E C(x) = x and E(C(x) - x)^2 <= (b - a)^2 / 4 <= (2^-7 |x|)^2 / 4. On the bit pattern of a
float32 this is one integer addition: 16 random bits below the kept ones, then cut.
"""

from __future__ import annotations

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
    frame,
    require_finite,
    require_length,
    unframe,
)
from fedsieve.registry import register

LARGEST_FINITE = np.uint32(0x7F7F0000)  # the largest bfloat16, as the bits of a float32
SIGN, MAGNITUDE = np.uint32(0x80000000), np.uint32(0x7FFFFFFF)


@register("codec", "raw16")
@dataclass(frozen=True)
class Raw16:
    """Every number as bfloat16, stochastically rounded so that it is right on average.

    Facts: unbiased, omega = 2^-16 (for numbers of magnitude 2^-126 up to the largest bfloat16).

    Example:
        >>> import torch
        >>> code, x = Raw16(), torch.tensor([1.0, -2.5])
        >>> wire = code.encode(x, np.random.default_rng(0))
        >>> len(wire), code.decode(wire)
        (28, tensor([ 1.0000, -2.5000]))
    """

    lossless: ClassVar[bool] = False
    data_dependent: ClassVar[bool] = False

    def encode(self, x: Tensor, key: np.random.Generator) -> bytes:
        """The bytes of a vector (k,); the key draws 16 bits a number."""
        numbers = to_numpy(x)
        size, bits = len(numbers), numbers.view(np.uint32)
        dither = key.integers(0, 1 << 16, size=size, dtype=np.uint16)
        magnitude = bits & MAGNITUDE
        finite = magnitude <= LARGEST_FINITE
        rounded = np.where(finite, np.minimum(magnitude + dither, LARGEST_FINITE), magnitude)
        kept = (((bits & SIGN) | rounded) >> np.uint32(16)).astype("<u2")
        return frame(Header(Code.RAW, Type.BFLOAT16, size, size), kept.tobytes())

    def decode(self, data: bytes, size: int | None = None) -> Tensor:
        """The vector (k,) as float32.

        Raises:
            WireError: Not such a message, of another size, or not finite.
        """
        header, body = unframe(data, Code.RAW, Type.BFLOAT16, size)
        require_length(body, 2 * header.size)
        bits = np.frombuffer(body, "<u2").astype(np.uint32) << np.uint32(16)
        return to_tensor(require_finite(bits.view(np.float32)))

    def omega(self, d: int) -> float:  # noqa: ARG002
        """2^-16 for any number of coordinates."""
        return 2.0**-16

    def alpha(self, d: int) -> float:
        """1 - omega."""
        return 1 - self.omega(d)

    def wire_bits(self, d: int) -> int:
        """16 bits a number and the header."""
        return 8 * HEADER.size + 16 * d
