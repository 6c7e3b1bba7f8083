"""Two-sided geometric noise, the Laplace mechanism on integers.

Ghosh, Roughgarden, Sundararajan, "Universally Utility-Maximizing Privacy Mechanisms", STOC 2009.
For integers whose sum of magnitudes differs by at most Delta between neighbours

    y = x + Z,    P(Z_j = z) proportional to exp(-epsilon |z| / Delta),

is epsilon-DP for the whole vector, without a delta; Var = 2 r / (1 - r)^2, r = e^(-epsilon/Delta).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from fedsieve.privacy.discrete._laws import WIDEST, LaplaceLaw
from fedsieve.privacy.discrete._table import sample
from fedsieve.privacy.discrete.lattice import IntArray, check_reach
from fedsieve.registry import register


@register(
    "discrete-mechanism",
    "geometric",
    paper='Ghosh, Roughgarden, Sundararajan, "Universally utility-maximizing", STOC 2009',
)
@dataclass(frozen=True)
class Geometric:
    """Adds two-sided geometric noise to integers; for counts and histograms.

    Args:
        epsilon: Budget of one vector of integers, > 0.
        sensitivity: Delta, an integer >= 1: the largest l1 distance of neighbouring vectors.

    Raises:
        ValueError: An argument out of range, or noise of more than 2^12 units.

    Example:
        >>> Geometric(epsilon=1.0).privatize(np.array([10, 20]), np.random.default_rng(0))
        array([10, 20])
    """

    epsilon: float
    sensitivity: int = 1

    def __post_init__(self) -> None:
        if not (math.isfinite(self.epsilon) and self.epsilon > 0):
            raise ValueError(f"epsilon={self.epsilon} must be finite and > 0")
        if self.sensitivity != int(self.sensitivity) or self.sensitivity < 1:
            raise ValueError(f"sensitivity={self.sensitivity} must be an integer >= 1")
        most = WIDEST // 4  # an exponential tail is longer than a Gaussian one
        if self.scale > most:
            least = self.sensitivity / most
            raise ValueError(f"epsilon={self.epsilon} must be >= {least:.6g} at this sensitivity")

    @property
    def scale(self) -> Fraction:
        """Delta / epsilon."""
        return int(self.sensitivity) / Fraction(self.epsilon)

    @property
    def variance(self) -> float:
        """Variance of the noise."""
        half = 1 / (2 * float(self.scale))
        return 0.5 / math.sinh(half) ** 2 if half < 300 else 0.0

    def privatize(self, x: np.ndarray, generator: np.random.Generator) -> IntArray:
        """Integers x with noise, of the same shape.

        Raises:
            ValueError: Something other than integers, or one beyond +-2^62.
        """
        if x.dtype.kind not in "iu":
            raise ValueError(f"x is of type {x.dtype}; it must hold integers")
        check_reach(x, "x")
        noise = sample(LaplaceLaw(self.scale), x.size, generator)
        return x.astype(np.int64) + noise.reshape(x.shape)
