"""The l2-ball mechanism of Duchi, Jordan and Wainwright.

Duchi, Jordan, Wainwright, "Minimax Optimal Procedures for Locally Private Estimation", JASA 2018.
For |x| <= r and E = e^epsilon: let z be x / |x| with probability 1/2 + |x| / (2 r), else -x / |x|.
With probability E / (E + 1) the report is uniform on the half of the sphere of radius

    B = r (E + 1) / (E - 1) sqrt(pi) Gamma((d + 1) / 2) / Gamma(d / 2)

that faces z, otherwise on the other half. It is unbiased with E|y - x|^2 = B^2 - |x|^2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fedsieve.privacy._grid import to_grid
from fedsieve.privacy.local_dp._interval import FloatArray, check_epsilon
from fedsieve.privacy.local_dp._sphere import (
    SLACK,
    as_rows,
    checked_dimension,
    coordinate_grid,
    directions,
)
from fedsieve.registry import register


@register(
    "local-mechanism",
    "ball",
    paper='Duchi, Jordan, Wainwright, "Minimax optimal procedures", JASA 2018',
)
@dataclass(frozen=True)
class Ball:
    """Reports a point of a sphere, more likely on the side of the input vector.

    Best for small epsilon; its error does not fall below that of one random sign.

    Args:
        epsilon: Budget of one vector, in [1e-6, 20].
        d: Numbers in a vector, >= 1.
        radius: Public bound r of the input's norm, from 1e-100 to 1e100.

    Raises:
        ValueError: An argument out of range.

    Example:
        >>> report = Ball(epsilon=1.0, d=3).privatize([1.0, 0.0, 0.0], np.random.default_rng(0))
        >>> round(float(np.linalg.norm(report)), 3) == round(Ball(epsilon=1.0, d=3).norm, 3)
        True
    """

    epsilon: float
    d: int
    radius: float = 1.0

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)
        object.__setattr__(self, "d", checked_dimension(self.d))
        if not 1e-100 <= self.radius <= 1e100:  # its square is a float64
            raise ValueError(f"radius={self.radius} must be in [1e-100, 1e100]")

    @property
    def norm(self) -> float:
        """B, the norm of every report up to the rounding to the grid."""
        log_ratio = math.lgamma((self.d + 1) / 2) - math.lgamma(self.d / 2)
        return self.radius / math.tanh(self.epsilon / 2) * math.sqrt(math.pi) * math.exp(log_ratio)

    def variance(self, x: ArrayLike) -> FloatArray:
        """Mean squared error E|y - x|^2 (...) of the reports on vectors (..., d)."""
        norms = self._rows(x)[1]
        return (self.norm**2 - norms**2).reshape(np.shape(x)[:-1])

    @property
    def worst_variance(self) -> float:
        """The mean squared error at zero."""
        return self.norm**2

    def density(self, x: ArrayLike, y: ArrayLike) -> FloatArray:
        """Density (n,) of reports y (n, d) at one input x (d,), over that of the whole sphere."""
        (row,), (norm,) = self._rows(x)
        facing = 0.5 + norm / (2 * self.radius)
        E = math.exp(self.epsilon)
        towards = (facing * E + (1 - facing)) / ((E + 1) / 2)
        away = (facing + (1 - facing) * E) / ((E + 1) / 2)
        axis = row if norm else np.eye(1, self.d)[0]
        along: FloatArray = np.asarray(y, dtype=np.float64) @ axis
        law: FloatArray = np.where(along > 0, towards, away)
        return law

    def privatize(self, x: ArrayLike, generator: np.random.Generator) -> FloatArray:
        """Reports (..., d) of norm B on vectors (..., d) of norm at most r.

        Raises:
            ValueError: Another shape, a number that is not finite, or a norm above r.
        """
        rows, norms = self._rows(x)
        E, n = math.exp(self.epsilon), len(rows)
        z = np.where(norms[:, None] > 0, rows, np.eye(1, self.d))
        facing = generator.random(n) < 0.5 + norms / (2 * self.radius)
        kept = generator.random(n) < E / (E + 1)
        reports = directions(rows.shape, generator)
        ahead = np.einsum("ij,ij->i", reports, z) > 0
        reports[ahead != (facing == kept)] *= -1
        reports *= self.norm
        return to_grid(reports, coordinate_grid(self.norm, self.d)).reshape(np.shape(x))

    def _rows(self, x: ArrayLike) -> tuple[FloatArray, FloatArray]:
        rows, norms = as_rows(x, self.d)
        if (norms > self.radius * (1 + SLACK)).any():
            raise ValueError(
                f"x holds a vector of norm {norms.max():.6g}, more than radius={self.radius}: clip "
                "it first"
            )
        return rows, np.minimum(norms, self.radius)
