"""Duchi's one-bit mechanism.

Duchi, Jordan, Wainwright, "Minimax Optimal Procedures for Locally Private Estimation", JASA 2018.
With E = e^epsilon and C = (E + 1) / (E - 1), the report is C or -C with

    P(C | x) = ((1 + x) E + (1 - x)) / (2 (E + 1)),    Var = C^2 - x^2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

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
    "duchi",
    paper='Duchi, Jordan, Wainwright, "Minimax optimal procedures", JASA 2018',
)
@dataclass(frozen=True)
class Duchi(IntervalMechanism):
    """Reports one of two values; the best there is for epsilon below about 0.6.

    Args:
        epsilon: Budget of one number, in [1e-6, 20].

    Example:
        >>> Duchi(epsilon=1.0).privatize([0.0, 1.0], np.random.default_rng(0)).round(3)
        array([2.164, 2.164])
    """

    epsilon: float

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)

    @property
    def bound(self) -> float:
        """C = (E + 1) / (E - 1)."""
        return 1 / math.tanh(self.epsilon / 2)

    @property
    def quadratic(self) -> Quadratic:
        """C^2 - x^2."""
        return self.bound**2, 0.0, -1.0

    @property
    def atoms(self) -> FloatArray:
        """-C and C."""
        return np.array([-self.bound, self.bound])

    def masses(self, x: ArrayLike) -> FloatArray:
        """P(-C | x) and P(C | x)."""
        x, E = on_interval(x), math.exp(self.epsilon)
        down, up = (1 + x) + (1 - x) * E, (1 + x) * E + (1 - x)  # nothing cancels
        return np.stack([down, up], axis=-1) / (2 * (E + 1))

    def _draw(self, x: FloatArray, generator: np.random.Generator) -> FloatArray:
        down = self.masses(x)[..., 0]
        return np.where(generator.random(x.shape) < down, -self.bound, self.bound)
