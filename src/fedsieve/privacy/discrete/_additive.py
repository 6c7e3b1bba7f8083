"""What the mechanisms that add integer noise to rounded vectors share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from fedsieve.privacy._twins import refuse_twins
from fedsieve.privacy.discrete._laws import WIDEST
from fedsieve.privacy.discrete._renyi import epsilon_of
from fedsieve.privacy.discrete.lattice import IntArray, Lattice, check_reach
from fedsieve.privacy.discrete.sum_lattice import SumLattice
from fedsieve.privacy.guarantee import Relation, check_target

LEAST_MULTIPLIER = 1e-9
"""Less is no noise, and the squares of what follows from it leave the range of a float64."""


class AdditiveMechanism(ABC):
    """Integer noise on rounded vectors, or on sums of them; the integers are private as sent.

    A unit (a record, or a client) contributes one rounded vector, or moves a rounded sum by as
    much as one. No amplification by sampling is counted here; with Poisson sampling
    `fedsieve.privacy.compose` is to be asked, with events of this law (and variance).
    """

    lattice: Lattice | SumLattice
    noise_multiplier: float

    @property
    def noise_std(self) -> float:
        """Standard deviation of the noise in units of the integers, before its own rounding up."""
        return self.noise_multiplier * self.lattice.l2

    def privatize(self, x: np.ndarray, generators: Sequence[np.random.Generator]) -> IntArray:
        """Round and add noise: to vectors (n, d), one per unit, or to sums on a `SumLattice`.

        Args:
            x: Vectors, which are clipped, or sums of clipped ones.
            generators: One per row, each client's own noise stream.

        Raises:
            ValueError: Another shape, a number that is not finite, or two generators the same or
                in the same state.
        """
        refuse_twins(generators)  # in time: rounding may draw from them, too
        return self.add_noise(self.lattice.round(x, list(generators)), generators)

    def add_noise(self, sums: IntArray, generators: Sequence[np.random.Generator]) -> IntArray:
        """Add noise to sums (n, d) of rounded vectors of different units.

        Args:
            sums: Integers.
            generators: One per row, each client's own noise stream.

        Raises:
            ValueError: Something other than integers of this shape, one beyond +-2^62, not one
                generator per row, or two the same or in the same state.
        """
        if sums.dtype.kind != "i" or sums.ndim != 2 or sums.shape[1] != self.lattice.d:
            raise ValueError(
                f"sums has shape {sums.shape} and type {sums.dtype}; needed are integers of shape "
                f"(n, {self.lattice.d})"
            )
        if len(generators) != len(sums):
            raise ValueError(
                f"there are {len(generators)} generators for {len(sums)} rows; each row needs its "
                "own"
            )
        refuse_twins(generators)
        check_reach(sums, "sums")
        noise = [self.noise(self.lattice.d, generator) for generator in generators]
        return sums + np.array(noise, dtype=np.int64).reshape(sums.shape)

    def epsilon(self, delta: float, steps: int = 1, relation: Relation = "add-remove") -> float:
        """Epsilon of so many releases on the same units.

        Args:
            delta: In (0, 1).
            steps: How many, >= 1.
            relation: Replacing a unit moves the sum twice as far as adding one.
        """
        check_target(delta, relation)
        return epsilon_of(lambda order: self.rdp(order, relation), delta, steps)

    @abstractmethod
    def rdp(self, order: float, relation: Relation = "add-remove") -> float:
        """Renyi divergence at this order > 1 of one release, from above."""

    @abstractmethod
    def noise(self, size: int, generator: np.random.Generator) -> IntArray:
        """Exact samples of the noise."""

    def _check(self) -> None:
        sigma = self.noise_multiplier
        if not LEAST_MULTIPLIER <= sigma < math.inf:
            raise ValueError(f"noise_multiplier={sigma} must be finite and >= {LEAST_MULTIPLIER:g}")
        if self.noise_std > WIDEST:
            raise ValueError(
                f"noise_multiplier={sigma} makes noise of {self.noise_std:.6g} units, more than "
                f"{WIDEST}: nothing is gained by a grid so fine; use "
                f"spacing={self.lattice.spacing * self.noise_std / WIDEST * 2:.3g} or more"
            )
