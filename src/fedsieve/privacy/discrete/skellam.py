"""Skellam noise, the difference of two Poisson variables.

Agarwal, Kairouz, Liu, "The Skellam Mechanism for Differentially Private Federated Learning",
NeurIPS 2021. With D2 and D1 the bounds of a rounded vector's norms and mu = (sigma D2)^2,

    y = round(x) + (P_1 - P_2),    P_i ~ Poisson(mu / 2),    Var = mu,

has the Renyi divergence, at an integer order alpha >= 2,

    alpha D2^2 / (2 mu) + min( ((2 alpha - 1) D2^2 + 6 D1) / (4 mu^2), 3 D1 / (2 mu) ),

or less. Sums of Skellam variables are Skellam: n clients' noises add up to one of variance n mu.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from fedsieve.privacy.discrete._additive import AdditiveMechanism
from fedsieve.privacy.discrete._laws import PoissonLaw
from fedsieve.privacy.discrete._table import sample
from fedsieve.privacy.discrete.lattice import IntArray, Lattice
from fedsieve.privacy.discrete.sum_lattice import SumLattice
from fedsieve.privacy.guarantee import Relation, sensitivity
from fedsieve.registry import register


@register(
    "discrete-mechanism",
    "skellam",
    paper='Agarwal, Kairouz, Liu, "The Skellam mechanism", NeurIPS 2021',
)
@dataclass(frozen=True)
class Skellam(AdditiveMechanism):
    """Adds Skellam noise to vectors that were rounded to integers; closed under sums.

    Args:
        lattice: The grid, with the bounds of a rounded vector's norms.
        noise_multiplier: sigma, noise standard deviation over the l2 bound, >= 1e-9.

    Raises:
        ValueError: An argument out of range, or noise of more than 2^14 units.

    Example:
        >>> mechanism = Skellam(Lattice(clip=1.0, spacing=0.01, d=2), noise_multiplier=1.0)
        >>> mechanism.privatize(np.array([[0.6, 0.8]]), [np.random.default_rng(0)])
        array([[-127, -167]])
    """

    lattice: Lattice | SumLattice
    noise_multiplier: float

    def __post_init__(self) -> None:
        self._check()

    @property
    def variance(self) -> Fraction:
        """The variance mu of the noise."""
        return Fraction(self.noise_multiplier) ** 2 * self.lattice.squared_norm

    def rdp(self, order: float, relation: Relation = "add-remove") -> float:
        """The stated bound at the next integer order; the divergence grows with the order."""
        alpha, times, mu = max(2, math.ceil(order)), sensitivity(relation), float(self.variance)
        D1, D2 = times * self.lattice.l1, times * self.lattice.l2
        first = ((2 * alpha - 1) * D2**2 + 6 * D1) / (4 * mu) / mu
        return alpha * D2**2 / (2 * mu) + min(first, 3 * D1 / (2 * mu))

    def noise(self, size: int, generator: np.random.Generator) -> IntArray:
        """Exact samples, each the difference of two exact Poisson samples."""
        poisson = PoissonLaw(self.variance / 2)
        return sample(poisson, size, generator) - sample(poisson, size, generator)
