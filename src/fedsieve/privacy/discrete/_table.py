"""Exact sampling of integers by inversion, vectorised.

Let F_j = P(X < j) for the integers j, and let U be uniform on [0, 1) with infinitely many bits, of
which only the first B are drawn at first. The sample is the j with F_j <= U < F_(j+1). A table
holds integers T_j with

    | T_j - 2^B F_j | < 1,

computed in integer arithmetic with a proven error. The first B bits of U, as an integer u, put
2^B U into [u, u + 1). If no T_j equals u or u + 1, every comparison of U with an F_j is decided by
that of u with T_j. Otherwise (with B = 63, once in some 10^15 samples) B is doubled: further bits
of U are drawn and the table is computed to more digits. The result has the exact law; no
floating-point number takes part in it.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
Table = tuple[int, tuple[int, ...]]
"""(j0, (T_j0, T_(j0+1), ..)): the F_j before the first are in (0, 2^-B), those after the last in
(1 - 2^-B, 1); the table holds 0 and 2^B in their place."""

BITS = 63  # so that 2^BITS fits into the comparison's uint64
GUARD = 96  # further bits of the arithmetic: rounding grows with the cube of the table's length


def sample(
    law: Callable[[int], Table], size: int, generator: np.random.Generator, bits: int = BITS
) -> IntArray:
    """Independent exact samples.

    Args:
        law: Gives the table to a number of bits B; hashable, so that tables are remembered.
        size: How many samples.
        generator: Where the bits come from.
        bits: B at first, at most 63.
    """
    first, thresholds = _as_array(law, bits)
    u = generator.integers(0, 2**bits, size, dtype=np.uint64)
    place = np.searchsorted(thresholds, u, side="right")
    # side="right": T_(place - 1) <= u < T_place
    unsure = (thresholds[place - 1] == u) | (thresholds[place] == u + np.uint64(1))
    samples = place.astype(np.int64)
    samples += first - 1
    for i in np.flatnonzero(unsure):
        samples[i] = _decide(law, int(u[i]), bits, generator)
    return samples


@lru_cache(maxsize=32)
def _as_array(law: Callable[[int], Table], bits: int) -> tuple[int, NDArray[np.uint64]]:
    first, thresholds = law(bits)
    return first, np.array(thresholds, dtype=np.uint64)


@lru_cache(maxsize=2)
def _to_more_bits(law: Callable[[int], Table], bits: int) -> Table:
    return law(bits)


def _decide(law: Callable[[int], Table], u: int, bits: int, generator: np.random.Generator) -> int:
    while True:
        u = (u << bits) | int.from_bytes(generator.bytes(bits // 8 + 1), "little") >> (8 - bits % 8)
        bits *= 2
        first, thresholds = _to_more_bits(law, bits)
        place = bisect.bisect_right(thresholds, u)
        if thresholds[place - 1] != u and thresholds[place] != u + 1:
            return first + place - 1


def from_weights(first: int, weights: list[int], bits: int) -> Table:
    """The table of a law that is proportional to fixed-point weights.

    Args:
        first: The integer that the first weight belongs to.
        weights: So exact, and with so little outside, that the shares of all partial sums in the
            true total are known to within 2^-(bits + 1).
        bits: B.
    """
    total = sum(weights)
    thresholds, partial = [0], 0
    for weight in weights[:-1]:
        partial += weight
        thresholds.append(((partial << bits + 1) // total + 1) >> 1)  # the nearest integer
    thresholds.append(1 << bits)
    return first, tuple(thresholds)


def exp_minus(x: Fraction, precision: int) -> int:
    """2^precision e^-x for x >= 0, with an error below 2.

    Taylor's series at y = x / 2^k <= 1/2, then k squarings. Each term is off by less than 2 units
    of the inner precision, each squaring doubles the error and adds 1; with N < 2^10 terms the
    result is off by less than 2^(k + 11) of the 2^(2 k + 16) inner units in an outer one.
    """
    k = max(0, x.numerator.bit_length() - x.denominator.bit_length() + 2)
    inner = precision + 2 * k + 16
    n, d = x.numerator, x.denominator << k
    total = term = 1 << inner
    step = 1
    while term:
        term = term * n // (d * step)
        total += -term if step % 2 else term
        step += 1
    for _ in range(k):
        total = total * total >> inner
    return total >> inner - precision
