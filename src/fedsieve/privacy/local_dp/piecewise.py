"""The piecewise mechanism.

Wang, Xiao, Yang, Zhao, Hui, Shin, Shin, Yu, "Collecting and Analyzing Multidimensional Data with
Local Differential Privacy", ICDE 2019. With E = e^epsilon, a shape t and

    A = (E + t)(t + 1) / (t (E - 1)),    L, R = (E + t)(x t -+ 1) / (t (E - 1)),

the report is uniform on [L, R] with probability E / (E + t), else uniform on the rest of [-A, A]:

    Var = x^2 (t + 1) / (E - 1) + (t + E)((t + 1)^3 + E - 1) / (3 t^2 (E - 1)^2).

The two densities differ by the factor E, whatever t is; the paper takes t = e^(epsilon / 2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fedsieve.privacy._grid import grid_spacing, to_grid
from fedsieve.privacy.local_dp._interval import (
    FloatArray,
    IntervalMechanism,
    Quadratic,
    check_epsilon,
    on_interval,
)
from fedsieve.registry import register


@register(
    "local-mechanism",
    "piecewise",
    paper='Wang et al., "Collecting and analyzing multidimensional data with LDP", ICDE 2019',
)
@dataclass(frozen=True)
class Piecewise(IntervalMechanism):
    """Reports a number from an interval, most likely from the part around the input.

    Args:
        epsilon: Budget of one number, in [1e-6, 20].
        shape: t from 1e-50 to 1e50; ``None`` is e^(epsilon / 2).

    Raises:
        ValueError: An argument outside these ranges.

    Example:
        >>> Piecewise(epsilon=2.0).privatize([0.0, 1.0], np.random.default_rng(0)).round(3)
        array([0.159, 1.314])
    """

    epsilon: float
    shape: float | None = None

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)
        if not 1e-50 <= self.t <= 1e50:  # its fourth power is a float64
            raise ValueError(f"shape={self.shape} must be in [1e-50, 1e50], or None")

    @property
    def t(self) -> float:
        """The shape in use."""
        return math.exp(self.epsilon / 2) if self.shape is None else self.shape

    @property
    def bound(self) -> float:
        """A, rounded to the grid."""
        return float(to_grid(np.asarray(self._half * (self.t + 1)), self._spacing))

    @property
    def quadratic(self) -> Quadratic:
        """The stated variance; it grows with |x|."""
        t, E1 = self.t, math.expm1(self.epsilon)
        return (t + 1 + E1) * ((t + 1) ** 3 + E1) / (3 * t**2 * E1**2), 0.0, (t + 1) / E1

    def density(self, x: ArrayLike, y: ArrayLike) -> FloatArray:
        """E / ((E + t) (R - L)) on [L, R], that over E on the rest of [-A, A]."""
        x, y = on_interval(x), np.asarray(y, dtype=np.float64)
        E, t, half = math.exp(self.epsilon), self.t, self._half
        high = E / ((E + t) * 2 * half)
        inside = np.abs(y - half * t * x) <= half
        return np.where(inside, high, np.where(np.abs(y) <= half * (t + 1), high / E, 0.0))

    @property
    def _half(self) -> float:
        """Half of R - L."""
        return (math.exp(self.epsilon) + self.t) / (self.t * math.expm1(self.epsilon))

    @property
    def _spacing(self) -> float:
        return grid_spacing(math.sqrt(self.quadratic[0]))

    def _draw(self, x: FloatArray, generator: np.random.Generator) -> FloatArray:
        E, t, half = math.exp(self.epsilon), self.t, self._half
        left, u = half * (t * x - 1), generator.random(x.shape)
        near = left + 2 * half * u
        far = half * (2 * t * u - (t + 1))  # on [-A, A] with [L, R] cut out, closed up
        far = np.where(far < left, far, far + 2 * half)
        chosen = generator.random(x.shape) < E / (E + t)
        return to_grid(np.where(chosen, near, far), self._spacing)
