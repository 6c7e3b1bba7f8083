"""What the mechanisms for numbers in [-1, 1] share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar

FloatArray = NDArray[np.float64]
Quadratic = tuple[float, float, float]
"""(v0, v1, v2): the variance v0 + v1 |x| + v2 x^2 at the input x."""

MOST_EPSILON = 20.0
"""Probabilities are compared with 53 random bits. The least that occurs is about e^-epsilon; at
epsilon = 20 the bits still hold it to a relative 1e-7."""


LEAST_EPSILON = 1e-6
"""A report is of the size of 1 / epsilon and drawn with probabilities that are exact to 2^-53: here
its mean is exact to 1e-9."""


def check_epsilon(epsilon: float) -> None:
    """Refuse an epsilon for which there is no mechanism."""
    if not LEAST_EPSILON <= epsilon <= MOST_EPSILON:
        raise ValueError(f"epsilon={epsilon} must be >= {LEAST_EPSILON:g} and <= {MOST_EPSILON:g}")


def on_interval(x: ArrayLike) -> FloatArray:
    """The numbers as float64.

    Raises:
        ValueError: One of them is outside [-1, 1] or not finite.
    """
    numbers = np.asarray(x, dtype=np.float64)
    outside = ~(np.abs(numbers) <= 1)  # also where not a number
    if outside.any():
        raise ValueError(
            f"x holds {numbers[outside][0]}, but every number must lie in [-1, 1]: clip and scale "
            "by a public bound first"
        )
    return numbers


class IntervalMechanism(ABC):
    """An unbiased epsilon-LDP report of numbers in [-1, 1], each by itself.

    The law of a report at x consists of probabilities `masses` at the points `atoms` and of a
    `density` elsewhere; the ratio of either at any two inputs is at most e^epsilon. Continuous
    reports are rounded to a public power-of-two grid, which is post-processing.
    """

    epsilon: float

    def privatize(self, x: ArrayLike, generator: np.random.Generator) -> FloatArray:
        """Reports on the numbers x, independent of one another, of the same shape.

        Args:
            x: Numbers in [-1, 1]. Each of them costs epsilon.
            generator: The noise stream of whoever reports.

        Raises:
            ValueError: A number outside [-1, 1] or not finite.
        """
        return self._draw(on_interval(x), generator)

    def variance(self, x: ArrayLike) -> FloatArray:
        """Variance of the report at each input."""
        u = np.abs(on_interval(x))
        v0, v1, v2 = self.quadratic
        return np.asarray(v0 + v1 * u + v2 * u * u)

    @property
    def worst_variance(self) -> float:
        """The largest variance over the inputs."""
        return worst(self.quadratic)

    @property
    @abstractmethod
    def quadratic(self) -> Quadratic:
        """The variance as a function of the input: v0 + v1 |x| + v2 x^2."""

    @property
    @abstractmethod
    def bound(self) -> float:
        """Largest magnitude of a report."""

    @property
    def atoms(self) -> FloatArray:
        """Points (m,) that are reported with positive probability."""
        return np.empty(0)

    def masses(self, x: ArrayLike) -> FloatArray:
        """Probabilities (..., m) of the atoms at the inputs."""
        return np.empty((*on_interval(x).shape, 0))

    def density(self, x: ArrayLike, y: ArrayLike) -> FloatArray:
        """Density of the report y at the input x, before rounding; shapes are broadcast."""
        return np.zeros(np.broadcast_shapes(on_interval(x).shape, np.shape(y)))

    @abstractmethod
    def _draw(self, x: FloatArray, generator: np.random.Generator) -> FloatArray:
        """Reports on checked numbers."""


def worst(quadratic: Quadratic) -> float:
    """Largest value of v0 + v1 u + v2 u^2 over u in [0, 1]."""
    v0, v1, v2 = quadratic
    ends = max(v0, v0 + v1 + v2)
    if v2 < 0 and 0 < -v1 / (2 * v2) < 1:
        return max(ends, v0 - v1 * v1 / (4 * v2))
    return ends


def mixed(weight: float, first: Quadratic, second: Quadratic) -> Quadratic:
    """Variance of a report that is of the first kind with this probability.

    Both are unbiased, so the variances mix as the laws do.
    """
    v0, v1, v2 = (weight * a + (1 - weight) * b for a, b in zip(first, second, strict=True))
    return v0, v1, v2


def least(cost: Callable[[float], float], low: float, high: float) -> float:
    """Where a unimodal function is least on [low, high], the ends included."""
    inner = minimize_scalar(cost, bounds=(low, high), method="bounded", options={"xatol": 1e-10})
    return min((low, high, float(inner.x)), key=cost)
