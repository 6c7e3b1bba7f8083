"""Integers as bytes: a fixed number of bits each, so the size tells nothing.

A message of d integers takes ceil(d B / 8) bytes. An integer that does not fit is wrapped around
modulo 2^B, as secure aggregation does with sums; choose B so that this hardly ever happens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from fedsieve._bits import pack, packed_bytes, unpack
from fedsieve.privacy.discrete.lattice import IntArray


@dataclass(frozen=True)
class IntegerWire:
    """Fixed-width integers in two's complement.

    Args:
        bits: B, from 1 to 63; values from -2^(B-1) to 2^(B-1) - 1.

    Raises:
        ValueError: ``bits`` outside this range, or no integer.

    Example:
        >>> import numpy as np
        >>> wire = IntegerWire(bits=5)
        >>> data = wire.encode(np.array([-16, 0, 15]))
        >>> len(data), wire.decode(data, 3)
        (2, array([-16,   0,  15]))
    """

    bits: int

    def __post_init__(self) -> None:
        if self.bits != int(self.bits) or not 1 <= self.bits <= 63:
            raise ValueError(f"bits={self.bits} must be an integer from 1 to 63")

    @classmethod
    def holding(cls, largest: float, noise_std: float) -> IntegerWire:
        """The narrowest wire that wraps around with a probability below 1e-15 a number.

        Args:
            largest: Largest magnitude without noise.
            noise_std: Standard deviation of noise with tails like a Gaussian's.
        """
        reach = math.ceil(largest + 8 * noise_std) + 1
        return cls(reach.bit_length() + 1)

    def wire_bits(self, d: int) -> int:
        """Size of d integers in bits."""
        return 8 * packed_bytes(d, self.bits)

    def encode(self, integers: IntArray) -> bytes:
        """Integers (d,) as bytes."""
        return pack(integers, self.bits)

    def decode(self, data: bytes, d: int) -> IntArray:
        """The d integers in the bytes.

        Raises:
            ValueError: Bytes of another size.
        """
        if 8 * len(data) != self.wire_bits(d):
            raise ValueError(
                f"data has {len(data)} bytes; {d} integers of {self.bits} bits have "
                f"{self.wire_bits(d) // 8}"
            )
        return unpack(data, self.bits, d)
