"""The exact laws of integer noise, as tables for `fedsieve.privacy.discrete._table.sample`.

Each law gives fixed-point weights with P = B + GUARD fractional bits, the largest being 1. They are
products of factors <= 1, so a weight's error grows by at most the factor's error and one unit of
truncation at each step, and the error of a sum stays below J^3 < 2^58 units for tables of J < 2^19
weights: 2^-(B + 36) of the total. Weights are listed down to 2^-(B + 40); what is left out is less
than 2^-(B + 20), because a law that is allowed here is at most 2^14 wide.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from fedsieve.privacy.discrete._table import GUARD, Table, exp_minus, from_weights

WIDEST = 2**14
"""Largest standard deviation (or scale) in units of the integers, for which a table takes up to a
second and 10 MB. Noise that spans so many integers hides the rounding to integers completely."""

CUT = 1 << GUARD - 40


@dataclass(frozen=True)
class GaussianLaw:
    """P(j) proportional to exp(-j^2 / (2 variance))."""

    variance: Fraction

    def __call__(self, bits: int) -> Table:
        """The table to this number of bits."""
        P = bits + GUARD
        half = [1 << P]
        ratio, shrink = exp_minus(1 / (2 * self.variance), P), exp_minus(1 / self.variance, P)
        while half[-1] > CUT:
            half.append(half[-1] * ratio >> P)
            ratio = ratio * shrink >> P
        return _symmetric(half, bits)


@dataclass(frozen=True)
class LaplaceLaw:
    """P(j) proportional to exp(-|j| / scale)."""

    scale: Fraction

    def __call__(self, bits: int) -> Table:
        """The table to this number of bits."""
        P = bits + GUARD
        half, ratio = [1 << P], exp_minus(1 / self.scale, P)
        while half[-1] > CUT:
            half.append(half[-1] * ratio >> P)
        return _symmetric(half, bits)


@dataclass(frozen=True)
class PoissonLaw:
    """P(j) proportional to mean^j / j!."""

    mean: Fraction

    def __call__(self, bits: int) -> Table:
        """The table to this number of bits."""
        mode, (a, b) = int(self.mean), self.mean.as_integer_ratio()
        top = 1 << bits + GUARD
        # the ratios of neighbours, a / (b j) upwards and b j / a downwards, are at most 1
        up = _down_to_cut(top, ((a, b * j) for j in itertools.count(mode + 1)))
        down = _down_to_cut(top, ((b * j, a) for j in range(mode, 0, -1)))
        weights = [*reversed(down), top, *up]
        return from_weights(mode - len(down), weights, bits)


def _down_to_cut(weight: int, ratios: Iterator[tuple[int, int]]) -> list[int]:
    weights: list[int] = []
    for n, d in ratios:
        weight = weight * n // d
        weights.append(weight)
        if weight <= CUT:
            break
    return weights


def _symmetric(half: list[int], bits: int) -> Table:
    return from_weights(1 - len(half), [*reversed(half), *half[1:]], bits)
