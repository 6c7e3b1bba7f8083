"""PrivUnit, for unit vectors.

Bhowmick, Duchi, Freudiger, Kapoor, Rogers, "Protection Against Reconstruction and Its Applications
in Private Federated Learning" (2018). With probability p the direction V is uniform on the cap
{v : <v, u> >= gamma} of the unit sphere, otherwise on the rest, and the report is V / m with

    m = E<V, u> = (1 - gamma^2)^al / (2 al B(1/2, al)) (p / R - (1 - p) / Q),    al = (d - 1)/2,

R and Q the shares of the cap and the rest in the sphere. Instead of the paper's sufficient split of
epsilon into two parts, p is what the two densities allow exactly (Feldman, Talwar, "Lossless
Compression of Efficient Private Local Randomizers", ICML 2021), and gamma gives the least error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betainc, betaincinv, betaln

from fedsieve.privacy._grid import to_grid
from fedsieve.privacy.local_dp._caps import Cap, best_cap
from fedsieve.privacy.local_dp._interval import FloatArray, check_epsilon
from fedsieve.privacy.local_dp._sphere import checked_dimension, coordinate_grid, turned, unit_rows
from fedsieve.registry import register


@register(
    "local-mechanism",
    "priv-unit",
    paper='Bhowmick et al., "Protection against reconstruction in private FL", 2018',
)
@dataclass(frozen=True)
class PrivUnit:
    """Reports a direction, more likely from the cap around the input; the most exact there is.

    Args:
        epsilon: Budget of one vector, in [1e-6, 20].
        d: Numbers in a vector, >= 2.

    Raises:
        ValueError: An argument out of range.

    Example:
        >>> mechanism = PrivUnit(epsilon=4.0, d=100)
        >>> round(mechanism.worst_variance / 100, 2)
        0.43
    """

    epsilon: float
    d: int

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)
        object.__setattr__(self, "d", checked_dimension(self.d, least=2))

    @cached_property
    def cap(self) -> Cap:
        """The cap of least error."""
        return best_cap(self.epsilon, self.d, self._shares, lambda c: -self._m(c), most=1.0)

    @property
    def norm(self) -> float:
        """1 / m, the norm of every report up to the rounding to the grid."""
        return 1 / self._m(self.cap)

    @property
    def worst_variance(self) -> float:
        """Mean squared error E|y - u|^2 = 1/m^2 - 1, the same for every input."""
        return self.norm**2 - 1

    def variance(self, x: ArrayLike) -> FloatArray:
        """Mean squared error E|y - u|^2 (...) of the reports on unit vectors (..., d)."""
        return np.full(len(unit_rows(x, self.d)), self.worst_variance).reshape(np.shape(x)[:-1])

    def density(self, x: ArrayLike, y: ArrayLike) -> FloatArray:
        """Density (n,) of reports y (n, d) at one input x (d,), over that of the whole sphere."""
        (u,), cap = unit_rows(x, self.d), self.cap
        inside = np.asarray(y) @ u / self.norm >= cap.gamma
        return np.where(inside, cap.inside, cap.outside)

    def privatize(self, x: ArrayLike, generator: np.random.Generator) -> FloatArray:
        """Reports (..., d) of norm 1 / m on unit vectors (..., d).

        Raises:
            ValueError: Another shape, or a vector that is not of norm 1.
        """
        u, cap, al = unit_rows(x, self.d), self.cap, self._al
        inside = generator.random(len(u)) < cap.p
        share = generator.random(len(u)) * np.where(inside, cap.R, cap.Q)
        # (1 - cosine) / 2 and (1 + cosine) / 2 are both Beta(al, al): take the tail that is drawn
        tail = betaincinv(al, al, share)
        cosine = np.where(inside, 1 - 2 * tail, 2 * tail - 1)
        reports = self.norm * turned(u, cosine, generator)
        return to_grid(reports, coordinate_grid(self.norm, self.d)).reshape(np.shape(x))

    @property
    def _al(self) -> float:
        return (self.d - 1) / 2

    def _shares(self, gamma: float) -> tuple[float, float]:
        R, Q = betainc(self._al, self._al, [(1 - gamma) / 2, (1 + gamma) / 2])
        return float(R), float(Q)

    def _m(self, cap: Cap) -> float:
        al = self._al
        log_scale = al * math.log1p(-(cap.gamma**2)) - math.log(2 * al) - float(betaln(0.5, al))
        return math.exp(log_scale) * cap.gain
