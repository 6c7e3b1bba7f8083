"""Discrete Gaussian noise.

Canonne, Kamath, Steinke, "The Discrete Gaussian for Differential Privacy", NeurIPS 2020; on rounded
vectors, Kairouz, Liu, Steinke, "The Distributed Discrete Gaussian Mechanism", ICML 2021. With Delta
the norm bound of the rounded vectors,

    y = round(x) + Z,    P(Z_j = z) proportional to exp(-z^2 / (2 (sigma Delta)^2)),

is 1/(2 sigma^2)-zCDP: its Renyi divergence is at most that of the Gaussian, alpha / (2 sigma^2).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from fedsieve.privacy.discrete._additive import AdditiveMechanism
from fedsieve.privacy.discrete._laws import GaussianLaw
from fedsieve.privacy.discrete._table import sample
from fedsieve.privacy.discrete.lattice import IntArray, Lattice
from fedsieve.privacy.discrete.sum_lattice import SumLattice
from fedsieve.privacy.guarantee import Relation, sensitivity
from fedsieve.registry import register


@register(
    "discrete-mechanism",
    "discrete-gaussian",
    paper='Canonne, Kamath, Steinke, "The discrete Gaussian for DP", NeurIPS 2020',
)
@dataclass(frozen=True)
class DiscreteGaussian(AdditiveMechanism):
    """Adds discrete Gaussian noise to vectors that were rounded to integers.

    Args:
        lattice: The grid, with the bound of a rounded vector's norm.
        noise_multiplier: sigma, noise over that bound, >= 1e-9.

    Raises:
        ValueError: An argument out of range, or noise of more than 2^14 units.

    Example:
        >>> mechanism = DiscreteGaussian(Lattice(clip=1.0, spacing=0.01, d=2), noise_multiplier=1.0)
        >>> mechanism.privatize(np.array([[0.6, 0.8]]), [np.random.default_rng(0)])
        array([[-115, -134]])
    """

    lattice: Lattice | SumLattice
    noise_multiplier: float

    def __post_init__(self) -> None:
        self._check()

    @property
    def variance(self) -> Fraction:
        """The parameter (sigma Delta)^2, which the true variance does not exceed."""
        return Fraction(self.noise_multiplier) ** 2 * self.lattice.squared_norm

    def rdp(self, order: float, relation: Relation = "add-remove") -> float:
        """The bound alpha / (2 sigma^2), four times that for replacement."""
        return order * (sensitivity(relation) / self.noise_multiplier) ** 2 / 2

    def noise(self, size: int, generator: np.random.Generator) -> IntArray:
        """Exact samples: several million in a second, after a table of a second at most."""
        return sample(GaussianLaw(self.variance), size, generator)
