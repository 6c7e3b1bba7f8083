"""Vectors on a grid of integers, with a norm that still has a bound after rounding.

Kairouz, Liu, Steinke, "The Distributed Discrete Gaussian Mechanism for Federated Learning with
Secure Aggregation", ICML 2021. A vector is clipped to norm c, divided by the spacing gamma, and
every number is rounded up or down at random so that its mean is kept; this is repeated until the
squared norm of the integers is at most

    min( c^2 / gamma^2 + d / 4 + sqrt(2 log(1/beta)) (c / gamma + sqrt(d) / 2),
         (c / gamma + sqrt(d))^2 ),

which a rounding misses with probability at most beta. The condition is checked on integers, so the
bound holds exactly, whatever floating point did before. It costs a bias that vanishes with beta.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

MOST_TRIES = 200  # then the vector is rounded towards zero, which no bound forbids
MOST = 2**62  # of an integer that noise, of 2^14 units or so, is added to
MOST_SQUARE = 2**62  # of an integer vector's norm: int64 holds the sum of squares


@dataclass(frozen=True)
class Lattice:
    """The integer grid of vectors of bounded norm.

    Args:
        clip: Norm c to which a vector is clipped, > 0.
        spacing: gamma, the distance of neighbouring grid points, > 0.
        d: Numbers in a vector, >= 1.
        beta: Probability below which a rounding is repeated, in (0, 1). The published choice is
            e^(-1/2); a smaller one costs norm and biases less.

    Raises:
        ValueError: An argument out of range, or a grid too fine for 64-bit integers.

    Example:
        >>> lattice = Lattice(clip=1.0, spacing=0.25, d=3)
        >>> lattice.round([[0.5, 0.1, -2.0]], [np.random.default_rng(0)])
        array([[ 1,  0, -3]])
        >>> lattice.squared_norm
        21
    """

    clip: float
    spacing: float
    d: int
    beta: float = math.exp(-0.5)

    def __post_init__(self) -> None:
        for name in ("clip", "spacing"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name}={value} must be finite and > 0")
        if self.d != int(self.d) or self.d < 1:
            raise ValueError(f"d={self.d} must be an integer >= 1")
        object.__setattr__(self, "d", int(self.d))  # 3.0 is one, too
        if not 0 < self.beta < 1:
            raise ValueError(f"beta={self.beta} must be in (0, 1)")
        if self.clip / self.spacing + math.sqrt(self.d) >= math.sqrt(MOST_SQUARE):
            finest = self.clip / (math.sqrt(MOST_SQUARE) - math.sqrt(self.d))
            raise ValueError(f"spacing={self.spacing} must be > {finest:.3g} for this clip")
        if self.squared_norm == 0:
            raise ValueError(
                f"spacing={self.spacing} rounds every vector to zero; it must be <= {self.clip}"
            )

    @property
    def squared_norm(self) -> int:
        """Largest squared norm of a rounded vector, in units of the integers."""
        c, root = self.clip / self.spacing, math.sqrt(self.d)
        likely = c**2 + self.d / 4 + math.sqrt(-2 * math.log(self.beta)) * (c + root / 2)
        return math.floor(min(likely, (c + root) ** 2))

    @property
    def l2(self) -> float:
        """Largest norm of a rounded vector, in units of the integers."""
        return math.sqrt(self.squared_norm)

    @property
    def l1(self) -> float:
        """Largest sum of magnitudes of a rounded vector, in units of the integers."""
        return min(math.sqrt(self.d * self.squared_norm), float(self.squared_norm))

    def round(self, x: ArrayLike, generators: list[np.random.Generator]) -> IntArray:
        """Clip vectors (n, d) and round them to integers (n, d) of bounded norm.

        Args:
            x: Vectors.
            generators: One per row.

        Raises:
            ValueError: Another shape, a number that is not finite, or not one generator per row.
        """
        rows = np.asarray(x, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != self.d or len(generators) != len(rows):
            raise ValueError(
                f"x has shape {rows.shape} and there are {len(generators)} generators; needed are "
                f"shape (n, {self.d}) and n generators"
            )
        if not np.isfinite(rows).all():
            raise ValueError("x holds a number that is not finite; count such a vector as zero")
        found = [self._round(row, own) for row, own in zip(rows, generators, strict=True)]
        return np.array(found, dtype=np.int64).reshape(rows.shape)

    def lift(self, integers: IntArray) -> FloatArray:
        """The vectors that integers stand for."""
        vectors: FloatArray = integers.astype(np.float64) * self.spacing
        return vectors

    def _round(self, row: FloatArray, generator: np.random.Generator) -> IntArray:
        largest = float(np.abs(row).max()) or 1.0
        shape = row / largest  # neither overflows nor vanishes when it is squared
        norm = float(np.linalg.norm(shape))
        scaled = shape / norm * self.clip if norm > self.clip / largest else row
        scaled = scaled / self.spacing
        low = np.floor(scaled)
        part = scaled - low
        base = low.astype(np.int64)
        for _ in range(MOST_TRIES):
            tried = base + (generator.random(self.d) < part)
            if _squared(tried) <= self.squared_norm:
                return tried
        towards_zero: IntArray = np.trunc(scaled * (1 - 1e-9)).astype(np.int64)
        assert _squared(towards_zero) <= self.squared_norm
        return towards_zero


def check_reach(integers: np.ndarray, name: str) -> None:
    """Refuse integers that noise could take beyond 64 bits."""
    beyond = (integers > MOST) | (integers < -MOST)
    if beyond.any():
        raise ValueError(f"{name} holds {integers[beyond][0]}; allowed is -2^62 to 2^62")


def _squared(integers: IntArray) -> int:
    return int(integers @ integers)
