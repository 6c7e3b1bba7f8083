"""The Poisson-binomial mechanism.

Chen, Ozgur, Kairouz, "The Poisson Binomial Mechanism for Unbiased Federated Learning with Secure
Aggregation", ICML 2022. Every number |x_j| <= c is sent as the number of heads of m coins,

    Z_j ~ Binomial(m, 1/2 + theta x_j / c),    x^_j = c / (m theta) (Z_j - m / 2),

which is unbiased with Var = (c / theta)^2 p (1 - p) / m. Two inputs give heads with probabilities
between q = 1/2 - theta and p = 1/2 + theta, so that d numbers have the Renyi divergence

    d m log( p^alpha q^(1 - alpha) + (1 - p)^alpha (1 - q)^(1 - alpha) ) / (alpha - 1)

or less, and are d m log(p / q)-DP without a delta. Any two inputs are neighbours.

What is sent are the counts, integers that are private as sent. What goes in may be real numbers or
the integers of a lattice, |z_j| <= L, with c = L. Neither needs a rounding, or a sensitivity after
one: the randomness of the count is noise and randomised rounding at once, and a number beyond c
is refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fedsieve.privacy._twins import refuse_twins
from fedsieve.privacy.discrete._renyi import epsilon_of
from fedsieve.privacy.discrete.lattice import FloatArray, IntArray
from fedsieve.registry import register

COIN = 2**32  # heads have a probability of this denominator: a coin is 32 random bits, exactly
MOST_COINS = 2**24  # they are tossed one by one; the noise of so many is a Gaussian's
_BLOCK = 2**17  # coins tossed at a time


@register(
    "discrete-mechanism",
    "poisson-binomial",
    paper='Chen, Ozgur, Kairouz, "The Poisson binomial mechanism", ICML 2022',
)
@dataclass(frozen=True)
class PoissonBinomial:
    """Sends every number as a count of biased coins; bounded, unbiased, log2(m + 1) bits.

    Args:
        bound: c, the public bound of a number's magnitude, from 1e-100 to 1e100.
        m: Coins per number, from 1 to 2^24.
        theta: Largest bias of a coin, in [2^-16, 1/4].

    Raises:
        ValueError: An argument out of range.

    Example:
        >>> mechanism = PoissonBinomial(bound=1.0, m=16, theta=0.1)
        >>> round(mechanism.rdp(2.0, d=1), 2), round(mechanism.pure_epsilon(d=1), 2)
        (2.47, 6.49)
    """

    bound: float
    m: int
    theta: float

    def __post_init__(self) -> None:
        if not 1e-100 <= self.bound <= 1e100:  # its square is a float64
            raise ValueError(f"bound={self.bound} must be in [1e-100, 1e100]")
        if not 1 <= self.m <= MOST_COINS or self.m != int(self.m):
            raise ValueError(f"m={self.m} must be an integer from 1 to {MOST_COINS}")
        object.__setattr__(self, "m", int(self.m))  # 16.0 is one, too
        if not 2**-16 <= self.theta <= 0.25:
            raise ValueError(f"theta={self.theta} must be in [2^-16, 1/4]")

    @property
    def wire_bits(self) -> int:
        """Bits of one number's count."""
        return int(self.m).bit_length()

    def rdp(self, order: float, d: int = 1) -> float:
        """Renyi divergence at this order > 1 of d numbers, from above; exact at the extremes."""
        p, q = 0.5 + self.theta, 0.5 - self.theta
        log_first = order * math.log(p) + (1 - order) * math.log(q)
        log_second = order * math.log(q) + (1 - order) * math.log(p)  # 1 - p = q
        return d * self.m * float(np.logaddexp(log_first, log_second)) / (order - 1)

    def pure_epsilon(self, d: int = 1) -> float:
        """Epsilon without a delta of d numbers."""
        return d * self.m * math.log((0.5 + self.theta) / (0.5 - self.theta))

    def epsilon(self, delta: float, d: int = 1, steps: int = 1) -> float:
        """Epsilon of so many releases of d numbers each, under replacement."""
        renyi = epsilon_of(lambda order: self.rdp(order, d), delta, steps)
        return min(renyi, steps * self.pure_epsilon(d))

    def variance(self, x: ArrayLike) -> FloatArray:
        """Variance of the decoded numbers at these inputs."""
        p = 0.5 + self.theta * np.asarray(x, dtype=np.float64) / self.bound
        return np.asarray((self.bound / self.theta) ** 2 * p * (1 - p) / self.m)

    def privatize(self, x: ArrayLike, generators: Sequence[np.random.Generator]) -> IntArray:
        """Counts (n, d) of heads for numbers (n, d).

        Args:
            x: Numbers of magnitude at most c.
            generators: One per row, each client's own noise stream.

        Raises:
            ValueError: Another shape, a number beyond the bound or not finite, not one generator
                per row, or two the same or in the same state.
        """
        rows = np.asarray(x, dtype=np.float64)
        if rows.ndim != 2 or len(generators) != len(rows):
            raise ValueError(
                f"x has shape {rows.shape} and there are {len(generators)} generators; needed are "
                "shape (n, d) and n generators"
            )
        refuse_twins(generators)
        beyond = ~(np.abs(rows) <= self.bound)
        if beyond.any():
            raise ValueError(f"x holds {rows[beyond][0]}, outside [-{self.bound}, {self.bound}]")
        # in whole 2^-32, and never beyond the probabilities that the guarantee is for
        most = math.floor(self.theta * COIN)
        bias = np.clip(np.rint(rows / self.bound * (self.theta * COIN)), -most, most)
        heads = COIN // 2 + bias.astype(np.int64)
        counts = np.zeros(rows.shape, dtype=np.int64)
        step = max(1, _BLOCK // max(1, rows.shape[1]))
        for row, likely, generator in zip(counts, heads, generators, strict=True):
            for start in range(0, self.m, step):
                tosses = min(step, self.m - start), len(row)
                coins = generator.integers(0, COIN, tosses, dtype=np.uint32)
                row += (coins < likely).sum(axis=0)
        return counts

    def lift(self, counts: IntArray) -> FloatArray:
        """Unbiased numbers from counts."""
        numbers: FloatArray = counts.astype(np.float64) - self.m / 2
        numbers *= self.bound / (self.m * self.theta)
        return numbers
