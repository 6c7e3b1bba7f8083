"""The exact sampler of Canonne, Kamath and Steinke, one sample at a time.

Canonne, Kamath, Steinke, "The Discrete Gaussian for Differential Privacy", NeurIPS 2020, Algorithms
1 to 3, on integers and fractions only: a Bernoulli variable with probability e^-g from ones with
probabilities g / k; from these a discrete Laplace variable; from it, by rejection, a discrete
Gaussian one. Nothing is computed in advance, and the variance may be as large as one likes. Where
many samples of one law are needed, `DiscreteGaussian.noise` is a thousand times as fast.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np


def sample_discrete_gaussian(variance: Fraction, generator: np.random.Generator) -> int:
    """One integer z with probability proportional to exp(-z^2 / (2 variance)), exactly.

    Args:
        variance: The parameter sigma^2, > 0.
        generator: Where the bits come from.

    Raises:
        ValueError: ``variance`` <= 0, or not finite.

    Example:
        >>> generator = np.random.default_rng(0)
        >>> [sample_discrete_gaussian(Fraction(9), generator) for _ in range(5)]
        [-1, -2, 2, -3, 0]
    """
    if not 0 < variance < math.inf:
        raise ValueError(f"variance={variance} must be finite and > 0")
    variance = Fraction(variance)
    t = math.isqrt(int(variance)) + 1
    while True:
        y = _laplace(t, generator)
        if _exp_coin((abs(y) - variance / t) ** 2 / (2 * variance), generator):
            return y


def _laplace(t: int, generator: np.random.Generator) -> int:
    """An integer y with probability proportional to exp(-|y| / t)."""
    while True:
        u = _below(t, generator)
        if not _exp_coin(Fraction(u, t), generator):
            continue
        v = 0
        while _exp_coin(Fraction(1), generator):
            v += 1
        y, negative = u + t * v, _below(2, generator)
        if y or not negative:  # zero has one sign
            return -y if negative else y


def _exp_coin(g: Fraction, generator: np.random.Generator) -> bool:
    """True with probability e^-g, g >= 0."""
    while g > 1:
        if not _exp_coin(Fraction(1), generator):
            return False
        g -= 1
    k = 1
    while _below(g.denominator * k, generator) < g.numerator:  # with probability g / k
        k += 1
    return k % 2 == 1


def _below(n: int, generator: np.random.Generator) -> int:
    """A uniformly random integer from 0 to n - 1, of any size."""
    if n < 2**63:
        return int(generator.integers(n))
    bits = n.bit_length()
    while True:
        drawn = int.from_bytes(generator.bytes(bits // 8 + 1), "little") >> (8 - bits % 8)
        if drawn < n:
            return drawn
