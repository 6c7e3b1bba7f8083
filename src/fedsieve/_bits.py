"""Integers of B bits each, one behind the other: the size tells nothing of their values."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]


def packed_bytes(count: int, bits: int) -> int:
    """Bytes that so many integers take."""
    return math.ceil(count * bits / 8)


def pack(integers: IntArray, bits: int) -> bytes:
    """Integers (d,) in two's complement, the lowest bit first; higher bits than B are dropped."""
    places = np.arange(bits, dtype=np.uint64)
    words = integers.astype(np.int64).view(np.uint64)[:, None] >> places
    return np.packbits((words & np.uint64(1)).astype(np.uint8)).tobytes()


def unpack(data: bytes | memoryview, bits: int, count: int) -> IntArray:
    """The integers (count,) in bytes of the right length."""
    found = np.unpackbits(np.frombuffer(data, dtype=np.uint8), count=count * bits)
    places = np.arange(bits, dtype=np.uint64)
    words = (found.reshape(count, bits).astype(np.uint64) << places).sum(axis=1)
    half = np.int64(1) << np.int64(bits - 1)
    signed: IntArray = (words.astype(np.int64) ^ half) - half
    return signed
