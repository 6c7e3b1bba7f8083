"""Integers as bytes: a fixed number of bits each, so the size tells nothing.

A message of d integers takes ceil(d B / 8) bytes. An integer that does not fit is wrapped around
modulo 2^B, as secure aggregation does with sums; choose B so that this hardly ever happens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fedsieve.privacy.discrete.lattice import IntArray


@dataclass(frozen=True)
class IntegerWire:
    """Fixed-width integers in two's complement.

    Args:
        bits: B, from 1 to 63; values from -2^(B-1) to 2^(B-1) - 1.

    Example:
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
        return 8 * math.ceil(d * self.bits / 8)

    def encode(self, integers: IntArray) -> bytes:
        """Integers (d,) as bytes."""
        places = np.arange(self.bits, dtype=np.uint64)
        words = integers.astype(np.int64).view(np.uint64)[:, None] >> places
        return np.packbits((words & np.uint64(1)).astype(np.uint8)).tobytes()

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
        found = np.unpackbits(np.frombuffer(data, dtype=np.uint8), count=d * self.bits)
        places = np.arange(self.bits, dtype=np.uint64)
        words = (found.reshape(d, self.bits).astype(np.uint64) << places).sum(axis=1)
        half = np.int64(1) << np.int64(self.bits - 1)
        signed: IntArray = (words.astype(np.int64) ^ half) - half
        return signed
