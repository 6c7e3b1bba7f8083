"""Sums of clipped vectors on a grid of integers, with a bound on how far one vector moves them.

Records are clipped and summed in real numbers, as the closed forms of the gradient engine do; the
sum is rounded to the nearest grid point. Two sums S, S' with ||S - S'|| <= C give integers with

    ||round(S / gamma) - round(S' / gamma)|| <= C (1 + SLACK) / gamma + sqrt(d),

because each of the d differences moves by at most 1/2 at either end. The bound needs no chance and
no repetition, unlike the randomised rounding of single vectors (`Lattice`), and costs
sqrt(d) gamma / C of noise: little on a fine grid.

SLACK is for the rounding of the sums themselves: the gradient engine adds up to 90 vectors in
float32 and more in float64, with a worst case below SLACK either way; of layers that add up many
places of a record (convolutions) that worst case is larger, and a tenth of SLACK was measured. It
is no proof for what comes before: each gradient is computed in floating point.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fedsieve.privacy.discrete.lattice import MOST_SQUARE, IntArray

SLACK = 2.0**-10
"""Share of the clip by which neighbouring sums may differ in excess of it."""


@dataclass(frozen=True)
class SumLattice:
    """The integer grid of sums, one vector of which has at most the norm C.

    Args:
        clip: C, > 0.
        spacing: gamma, the distance of neighbouring grid points, > 0.
        d: Numbers in a sum, >= 1.

    Raises:
        ValueError: An argument out of range, or a grid too fine for 64-bit integers.

    Example:
        >>> lattice = SumLattice(clip=1.0, spacing=0.25, d=3)
        >>> lattice.round([[0.55, 0.1, -2.0]])
        array([[ 2,  0, -8]])
        >>> lattice.squared_norm
        32
    """

    clip: float
    spacing: float
    d: int

    def __post_init__(self) -> None:
        for name in ("clip", "spacing"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name}={value} must be finite and > 0")
        if self.d != int(self.d) or self.d < 1:
            raise ValueError(f"d={self.d} must be an integer >= 1")
        object.__setattr__(self, "d", int(self.d))  # 3.0 is one, too
        if self._reach >= math.sqrt(MOST_SQUARE):
            finest = 1.01 * self.clip / (math.sqrt(MOST_SQUARE) - math.sqrt(self.d))
            raise ValueError(f"spacing={self.spacing} must be > {finest:.3g} for this clip")

    @property
    def squared_norm(self) -> int:
        """Largest squared distance of neighbouring rounded sums, in units of the integers."""
        return math.floor(self._reach**2)

    @property
    def l2(self) -> float:
        """Largest distance of neighbouring rounded sums, in units of the integers."""
        return math.sqrt(self.squared_norm)

    @property
    def l1(self) -> float:
        """Largest sum of magnitudes of that difference, in units of the integers."""
        return min(math.sqrt(self.d * self.squared_norm), float(self.squared_norm))

    def round(self, x: ArrayLike, generators: Sequence[np.random.Generator] = ()) -> IntArray:
        """The integers (n, d) nearest to sums (n, d).

        Args:
            x: Sums.
            generators: Not used; nothing is left to chance.

        Raises:
            ValueError: Another shape, or a number that is not finite or beyond 2^53 units.
        """
        del generators
        rows = np.asarray(x, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != self.d:
            raise ValueError(f"x has shape {rows.shape}; needed is shape (n, {self.d})")
        with np.errstate(over="ignore"):  # what overflows is beyond 2^53 units, too
            scaled = np.rint(rows / self.spacing)
        if not bool((np.abs(scaled) < 2.0**53).all()):
            raise ValueError("x holds a number that is not finite, or one beyond 2^53 units")
        integers: IntArray = scaled.astype(np.int64)
        return integers

    @property
    def _reach(self) -> float:
        return self.clip * (1 + SLACK) / self.spacing + math.sqrt(self.d)
