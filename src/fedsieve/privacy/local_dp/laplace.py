"""The Laplace mechanism on [-1, 1].

Dwork, McSherry, Nissim, Smith, "Calibrating Noise to Sensitivity in Private Data Analysis", TCC
2006. Two inputs differ by at most 2, so the report is

    y = x + s (X_1 - X_2),    X_i ~ Exponential(1),  s = 2 / epsilon,    Var = 2 s^2.

It is here to compare with: its worst-case variance is above that of the mixtures at every epsilon.
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


@register("local-mechanism", "laplace", paper='Dwork et al., "Calibrating noise", TCC 2006')
@dataclass(frozen=True)
class Laplace(IntervalMechanism):
    """Adds Laplace noise of scale 2 / epsilon.

    Args:
        epsilon: Budget of one number, in [1e-6, 20].

    Example:
        >>> Laplace(epsilon=2.0).privatize([0.0, 1.0], np.random.default_rng(0)).round(3)
        array([0.66 , 2.017])
    """

    epsilon: float

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)

    @property
    def scale(self) -> float:
        """Scale of the noise, s = 2 / epsilon."""
        return 2 / self.epsilon

    @property
    def bound(self) -> float:
        """There is none."""
        return math.inf

    @property
    def quadratic(self) -> Quadratic:
        """8 / epsilon^2 at every input."""
        return 2 * self.scale**2, 0.0, 0.0

    def density(self, x: ArrayLike, y: ArrayLike) -> FloatArray:
        """e^(-|y - x| / s) / (2 s)."""
        gap = np.abs(np.asarray(y, dtype=np.float64) - on_interval(x))
        return np.asarray(np.exp(-gap / self.scale) / (2 * self.scale))

    def _draw(self, x: FloatArray, generator: np.random.Generator) -> FloatArray:
        first, second = generator.standard_exponential((2, *x.shape))
        return to_grid(x + self.scale * (first - second), grid_spacing(self.scale))
