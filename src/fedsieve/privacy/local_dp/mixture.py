"""One of two mechanisms at random: the form of the hybrid mechanisms.

With probability w the report is the first mechanism's, else the second's, and the choice does not
look at x. Where both are unbiased and epsilon-LDP, so is the mixture, with

    Var(x) = w Var_1(x) + (1 - w) Var_2(x).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fedsieve.privacy.local_dp._interval import (
    FloatArray,
    IntervalMechanism,
    Quadratic,
    mixed,
)


@dataclass(frozen=True)
class Mixture(IntervalMechanism):
    """The first mechanism with a given probability, else the second.

    Args:
        first: A mechanism without atoms.
        second: A mechanism of the same epsilon.
        weight: Probability of the first, in [0, 1].

    Raises:
        ValueError: Different epsilons, atoms in the first, or a weight outside [0, 1].
    """

    first: IntervalMechanism
    second: IntervalMechanism
    weight: float

    def __post_init__(self) -> None:
        if self.first.epsilon != self.second.epsilon:
            raise ValueError(
                f"first.epsilon={self.first.epsilon} and second.epsilon={self.second.epsilon} "
                "must be equal"
            )
        if len(self.first.atoms):
            raise ValueError(f"first={self.first} must have a density only")
        if not 0 <= self.weight <= 1:
            raise ValueError(f"weight={self.weight} must be in [0, 1]")

    @property
    def epsilon(self) -> float:  # type: ignore[override]
        """Budget of one number: that of both."""
        return self.first.epsilon

    @property
    def bound(self) -> float:
        """The larger of the two, of those that can occur."""
        first = self.first.bound if self.weight > 0 else 0.0
        return max(first, self.second.bound if self.weight < 1 else 0.0)

    @property
    def quadratic(self) -> Quadratic:
        """The mixture of the two variances."""
        return mixed(self.weight, self.first.quadratic, self.second.quadratic)

    @property
    def atoms(self) -> FloatArray:
        """Those of the second."""
        return self.second.atoms

    def masses(self, x: ArrayLike) -> FloatArray:
        """Probabilities of the atoms."""
        return (1 - self.weight) * self.second.masses(x)

    def density(self, x: ArrayLike, y: ArrayLike) -> FloatArray:
        """The mixture of the two densities."""
        first, second = self.first.density(x, y), self.second.density(x, y)
        return self.weight * first + (1 - self.weight) * second

    def _draw(self, x: FloatArray, generator: np.random.Generator) -> FloatArray:
        chosen = generator.random(x.shape) < self.weight
        reports = np.empty(x.shape)
        reports[chosen] = self.first.privatize(x[chosen], generator)
        reports[~chosen] = self.second.privatize(x[~chosen], generator)
        return reports
