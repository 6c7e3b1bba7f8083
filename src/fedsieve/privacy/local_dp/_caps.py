"""How the cap mechanisms choose their cap.

A report lies in the cap around the input with probability p, and would with probability R = 1 - Q
if it were not informed. The densities inside and outside are p / R and (1 - p) / Q, so

    epsilon = log(p / (1 - p)) + log(Q / R),

exactly; for every gamma this fixes p, and the gamma of least error is found numerically.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit

WIDEST = 8.0  # gamma sqrt(d) up to which a cap is tried; a share of 1e-15 is beyond epsilon = 20


@dataclass(frozen=True)
class Cap:
    """A cap around the input vector.

    Args:
        gamma: Its least cosine.
        p: Probability that a report lies in it.
        R: Probability that an uninformed report lies in it.
        Q: 1 - R, kept for its digits.
    """

    gamma: float
    p: float
    R: float
    Q: float

    @property
    def inside(self) -> float:
        """Density in the cap over the uninformed one, p / R."""
        return self.p / self.R

    @property
    def outside(self) -> float:
        """Density elsewhere over the uninformed one, (1 - p) / Q."""
        return (1 - self.p) / self.Q

    @property
    def gain(self) -> float:
        """How much larger the density is inside: p / R - (1 - p) / Q."""
        return self.inside - self.outside


def best_cap(
    epsilon: float,
    d: int,
    shares: Callable[[float], tuple[float, float]],
    error: Callable[[Cap], float],
    most: float = np.inf,
) -> Cap:
    """The cap of least error at this epsilon.

    Args:
        epsilon: Budget.
        d: Dimension; gamma is of the order of 1 / sqrt(d).
        shares: (R, Q) as a function of gamma.
        error: What to make small.
        most: Largest gamma.
    """

    def cap(gamma: float) -> Cap:
        R, Q = shares(gamma)
        return Cap(gamma, float(expit(epsilon - np.log(Q / R))), R, Q)

    high = min(WIDEST / np.sqrt(d), most)
    grid = np.linspace(0, high, 66)[:-1]
    i = int(np.argmin([error(cap(g)) for g in grid]))
    around = (grid[max(i - 1, 0)], grid[min(i + 1, len(grid) - 1)])
    inner = minimize_scalar(lambda g: error(cap(g)), bounds=around, method="bounded")
    return min((cap(grid[i]), cap(float(inner.x))), key=error)
