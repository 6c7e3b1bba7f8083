"""The three-outputs mechanism.

Zhao, Zhao, Yang, Wang, Wang, Lyu, Niyato, Lam, "Local Differential Privacy-Based Federated Learning
for Internet of Things", IEEE Internet of Things Journal 2021. With E = e^epsilon and a = P(0 | 0),
the report is -C, 0 or C, C = E (E + 1) / ((E - 1)(E - a)), with probabilities linear in |x| between

    P(C | 0) = (1 - a) / 2,    P(C | 1) = (E - a) / (E + 1),    P(-C | 1) = P(C | 1) / E,
    Var = C^2 (1 - a + a (1 - 1/E) |x|) - x^2.

It is epsilon-LDP for 0 <= a <= E / (E + 2). The worst-case variance decides a: 0 (Duchi's
mechanism) up to epsilon = ln 2, the upper end from about ln 5.53, and in between the root of a
quartic, which is found numerically here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from fedsieve.privacy.local_dp._interval import (
    FloatArray,
    IntervalMechanism,
    Quadratic,
    check_epsilon,
    least,
    on_interval,
    worst,
)
from fedsieve.registry import register


@register(
    "local-mechanism",
    "three-outputs",
    paper='Zhao et al., "LDP-based federated learning for Internet of Things", IoT-J 2021',
)
@dataclass(frozen=True)
class ThreeOutputs(IntervalMechanism):
    """Reports one of three values, zero among them.

    Args:
        epsilon: Budget of one number, in [1e-6, 20].
        silence: a = P(0 | 0), in [0, E / (E + 2)]; ``None`` takes the value of least worst-case
            variance.

    Raises:
        ValueError: An argument outside these ranges.

    Example:
        >>> ThreeOutputs(epsilon=2.0).privatize([0.0, 1.0, 1.0], np.random.default_rng(2)).round(3)
        array([0.  , 1.47, 1.47])
    """

    epsilon: float
    silence: float | None = None

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)
        most = most_silence(self.epsilon)
        if not 0 <= self.a <= most * (1 + 1e-12):  # its own rounding
            raise ValueError(f"silence={self.silence} must be in [0, {most}], or None")

    @property
    def a(self) -> float:
        """The probability of zero at zero that is in use."""
        return best_silence(self.epsilon) if self.silence is None else self.silence

    @property
    def bound(self) -> float:
        """C = E (E + 1) / ((E - 1)(E - a))."""
        return bound(self.epsilon, self.a)

    @property
    def quadratic(self) -> Quadratic:
        """The stated variance."""
        return quadratic(self.epsilon, self.a)

    @property
    def atoms(self) -> FloatArray:
        """-C, 0 and C."""
        return np.array([-self.bound, 0.0, self.bound])

    def masses(self, x: ArrayLike) -> FloatArray:
        """P(-C | x), P(0 | x) and P(C | x)."""
        x, E, a = on_interval(x), math.exp(self.epsilon), self.a
        u = np.abs(x)
        facing = (1 - u) * (1 - a) / 2 + u * (E - a) / (E + 1)
        averted = (1 - u) * (1 - a) / 2 + u * (E - a) / (E * (E + 1))
        down, up = np.where(x > 0, averted, facing), np.where(x > 0, facing, averted)
        return np.stack([down, (1 - u) * a + u * a / E, up], axis=-1)

    def _draw(self, x: FloatArray, generator: np.random.Generator) -> FloatArray:
        ends = np.cumsum(self.masses(x)[..., :2], axis=-1)
        u = generator.random(x.shape)
        return self.atoms[(u >= ends[..., 0]) * 1 + (u >= ends[..., 1]) * 1]


def most_silence(epsilon: float) -> float:
    """E / (E + 2), the largest a that is epsilon-LDP."""
    return 1 / (1 + 2 * math.exp(-epsilon))


def bound(epsilon: float, a: float) -> float:
    """C as a function of epsilon and a."""
    E = math.exp(epsilon)
    return E * (E + 1) / (math.expm1(epsilon) * (E - a))


def quadratic(epsilon: float, a: float) -> Quadratic:
    """The variance as a function of epsilon and a."""
    C = bound(epsilon, a)
    return C**2 * (1 - a), -(C**2) * a * math.expm1(-epsilon), -1.0


@lru_cache(maxsize=256)
def best_silence(epsilon: float) -> float:
    """The a of least worst-case variance."""
    return least(lambda a: worst(quadratic(epsilon, a)), 0.0, most_silence(epsilon))
