"""PrivUnitG, PrivUnit with Gaussians in place of the sphere.

Asi, Feldman, Talwar, "Optimal Algorithms for Mean Estimation under Local Differential Privacy",
ICML 2022. For a unit vector u

    V = a u + N(0, (I - u u^T) / d),    a ~ N(0, 1/d) given a >= gamma with probability p,
                                        given a < gamma with probability 1 - p,
    m = E a = d^(-1/2) phi(z) (p / R - (1 - p) / Q),    z = gamma sqrt(d),

with R = Phi(-z) and Q = Phi(z), and the report is V / m. The density at V is that of N(0, I / d)
times p / R or (1 - p) / Q.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri

from fedsieve.privacy._grid import grid_spacing, to_grid
from fedsieve.privacy.local_dp._caps import Cap, best_cap
from fedsieve.privacy.local_dp._interval import FloatArray, check_epsilon
from fedsieve.privacy.local_dp._sphere import checked_dimension, unit_rows
from fedsieve.registry import register


@register(
    "local-mechanism",
    "priv-unit-g",
    paper='Asi, Feldman, Talwar, "Optimal algorithms for mean estimation under LDP", ICML 2022',
)
@dataclass(frozen=True)
class PrivUnitG:
    """Reports a Gaussian vector whose part along the input is more likely to be large.

    Nearly as exact as PrivUnit, and simpler: its norm is random.

    Args:
        epsilon: Budget of one vector, in [1e-6, 20].
        d: Numbers in a vector, >= 1.

    Raises:
        ValueError: An argument out of range.

    Example:
        >>> mechanism = PrivUnitG(epsilon=4.0, d=1000)
        >>> round(mechanism.worst_variance / 1000, 3)
        0.435
    """

    epsilon: float
    d: int

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)
        object.__setattr__(self, "d", checked_dimension(self.d))

    @cached_property
    def cap(self) -> Cap:
        """The cap of least error."""
        return best_cap(self.epsilon, self.d, self._shares, self._error)

    @property
    def mean_square_norm(self) -> float:
        """E|y|^2; the norm itself is not bounded."""
        return self.worst_variance + 1

    @property
    def worst_variance(self) -> float:
        """Mean squared error E|y - u|^2, the same for every input."""
        return self._error(self.cap)

    def variance(self, x: ArrayLike) -> FloatArray:
        """Mean squared error E|y - u|^2 (...) of the reports on unit vectors (..., d)."""
        return np.full(len(unit_rows(x, self.d)), self.worst_variance).reshape(np.shape(x)[:-1])

    def density(self, x: ArrayLike, y: ArrayLike) -> FloatArray:
        """Density (n,) of reports y (n, d) at one input x (d,), over that of N(0, I / (d m^2))."""
        (u,), cap = unit_rows(x, self.d), self.cap
        inside = np.asarray(y) @ u * self._m(cap) >= cap.gamma
        return np.where(inside, cap.inside, cap.outside)

    def privatize(self, x: ArrayLike, generator: np.random.Generator) -> FloatArray:
        """Reports (..., d) on unit vectors (..., d).

        Raises:
            ValueError: Another shape, or a vector that is not of norm 1.
        """
        u, cap = unit_rows(x, self.d), self.cap
        inside = generator.random(len(u)) < cap.p
        share = (1 - generator.random(len(u))) * np.where(inside, cap.R, cap.Q)  # > 0
        z = ndtri(share) * np.where(inside, -1, 1)  # from the tail that is drawn
        V = generator.standard_normal(u.shape)
        V += (z - np.einsum("ij,ij->i", V, u))[:, None] * u
        scale = 1 / (self._m(cap) * math.sqrt(self.d))
        return to_grid(scale * V, grid_spacing(scale)).reshape(np.shape(x))

    def _shares(self, gamma: float) -> tuple[float, float]:
        z = gamma * math.sqrt(self.d)
        return float(ndtr(-z)), float(ndtr(z))

    def _m(self, cap: Cap) -> float:
        return self._phi(cap) * cap.gain / math.sqrt(self.d)

    def _phi(self, cap: Cap) -> float:
        return math.exp(-(cap.gamma**2) * self.d / 2) / math.sqrt(2 * math.pi)

    def _error(self, cap: Cap) -> float:
        """E|V|^2 / m^2 - 1, with E a^2 from the truncated normal's second moment."""
        z = cap.gamma * math.sqrt(self.d)
        second = 1 + z * self._phi(cap) * cap.gain
        return (second + self.d - 1) / self.d / self._m(cap) ** 2 - 1
