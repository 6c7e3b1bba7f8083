"""Integers on a public grid, as integer noise leaves them, in B bits each.

A message of a mechanism with integer noise is a vector of integers times a public power of two,

    x = step * y,    |y_j| < 2^(B-1),

and y is what travels: d numbers in ceil(d B / 8) bytes, whatever they are. Other vectors (those of
malicious clients) go to the nearest integers within the bits. -2^(B-1) is no integer of a message;
it stands for a number that is not finite, and the receiver refuses it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from fedsieve._bits import pack, packed_bytes, unpack
from fedsieve.compression.codecs._numbers import to_numpy, to_tensor
from fedsieve.compression.codecs.wire import (
    HEADER,
    Code,
    Header,
    Type,
    WireError,
    frame,
    require_length,
    unframe,
)
from fedsieve.registry import register


@register("codec", "integers")
@dataclass(frozen=True)
class Integers:
    """Whole multiples of a public step, in a fixed number of bits each; exact for such vectors.

    Facts: alpha = 0, because a number below half a step becomes zero; on multiples of the step
    within the bits nothing is lost.

    Args:
        step: Distance of neighbouring numbers, a power of two.
        bits: B, from 2 to 25: float32 holds such integers exactly.

    Raises:
        ValueError: An argument out of range.

    Example:
        >>> import torch
        >>> code, x = Integers(step=0.5, bits=4), torch.tensor([1.0, -2.5, 0.0])
        >>> wire = code.encode(x, np.random.default_rng(0))
        >>> len(wire), code.decode(wire)
        (26, tensor([ 1.0000, -2.5000,  0.0000]))
    """

    step: float = 2.0**-16
    bits: int = 24
    lossless: ClassVar[bool] = False
    data_dependent: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.step) and self.step > 0 and math.frexp(self.step)[0] == 0.5):
            raise ValueError(f"step={self.step} must be a power of two")
        if self.bits != int(self.bits) or not 2 <= self.bits <= 25:
            raise ValueError(f"bits={self.bits} must be an integer from 2 to 25")

    @property
    def largest(self) -> int:
        """Largest magnitude of an integer."""
        return (1 << (self.bits - 1)) - 1

    def encode(self, x: Tensor, key: np.random.Generator) -> bytes:  # noqa: ARG002 - no dither
        """The bytes of a vector (k,)."""
        numbers = to_numpy(x).astype(np.float64)
        finite = np.isfinite(numbers)
        units = np.rint(np.where(finite, numbers, 0.0) / self.step)
        whole = np.clip(units, -self.largest, self.largest).astype(np.int64)
        whole[~finite] = -self.largest - 1
        size = len(whole)
        return frame(Header(Code.INTEGERS, Type.INTEGER, size, size), pack(whole, self.bits))

    def decode(self, data: bytes, size: int | None = None) -> Tensor:
        """The vector (k,) as float32.

        Raises:
            WireError: Not such a message, of another size, or not finite.
        """
        header, body = unframe(data, Code.INTEGERS, Type.INTEGER, size)
        require_length(body, packed_bytes(header.size, self.bits))
        whole = unpack(body, self.bits, header.size)
        if header.size and int(whole.min()) < -self.largest:
            place = int(whole.argmin())
            raise WireError(f"number {place} is none; only finite numbers are accepted")
        return to_tensor(whole * self.step)

    def omega(self, d: int) -> float:  # noqa: ARG002
        """Infinite: small numbers become zero."""
        return math.inf

    def alpha(self, d: int) -> float:  # noqa: ARG002
        """0: no number is ever farther from its code than from zero."""
        return 0.0

    def wire_bits(self, d: int) -> int:
        """B bits a number, rounded up to bytes, and the header."""
        return 8 * (HEADER.size + packed_bytes(d, self.bits))
