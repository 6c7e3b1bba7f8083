"""From numbers to vectors: some coordinates, each with a larger share of the budget.

Wang, Xiao, Yang, Zhao, Hui, Shin, Shin, Yu, "Collecting and Analyzing Multidimensional Data with
Local Differential Privacy", ICDE 2019. For x in [-1, 1]^d draw, without looking at x, a set of

    k = max(1, min(d, floor(epsilon / 2.5)))

coordinates, report on each with a mechanism of budget epsilon / k, and scale by d / k:

    y_j = (d / k) M(x_j) for the drawn j, else 0,    Var_j = (d / k)(Var_M(x_j) + x_j^2) - x_j^2.

The drawn coordinates are sent and known. The error grows with d^2 / k: compress first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from fedsieve.privacy.local_dp._interval import FloatArray, IntervalMechanism, on_interval, worst
from fedsieve.privacy.local_dp._sphere import checked_dimension
from fedsieve.privacy.local_dp.hm_tp import hm_tp
from fedsieve.registry import register

SHARE = 2.5  # budget of a coordinate where the published mechanisms are at their best


@register(
    "local-mechanism",
    "sampled-coordinates",
    paper='Wang et al., "Collecting and analyzing multidimensional data with LDP", ICDE 2019',
)
@dataclass(frozen=True)
class SampledCoordinates:
    """Reports on some coordinates of a vector in [-1, 1]^d; the whole report costs epsilon.

    Args:
        epsilon: Budget of one vector, > 0; the k coordinates share it, at most 20 each.
        d: Numbers in a vector, >= 1.
        kind: Builds the mechanism of one number from its budget, such as `Piecewise`.

    Raises:
        ValueError: An argument out of range.

    Example:
        >>> mechanism = SampledCoordinates(epsilon=5.0, d=4)
        >>> mechanism.k, mechanism.privatize(np.zeros(4), np.random.default_rng(1)).round(3)
        (2, array([-0.204,  0.   ,  0.738,  0.   ]))
    """

    epsilon: float
    d: int
    kind: Callable[[float], IntervalMechanism] = hm_tp

    def __post_init__(self) -> None:
        object.__setattr__(self, "d", checked_dimension(self.d))
        if not self.epsilon > 0:
            raise ValueError(f"epsilon={self.epsilon} must be > 0")
        _ = self.one  # a budget that its kind refuses is refused here

    @property
    def k(self) -> int:
        """Coordinates in a report."""
        return max(1, min(self.d, int(min(self.epsilon / SHARE, self.d))))

    @cached_property
    def one(self) -> IntervalMechanism:
        """The mechanism of one coordinate, of budget epsilon / k."""
        return self.kind(self.epsilon / self.k)

    def privatize(self, x: ArrayLike, generator: np.random.Generator) -> FloatArray:
        """Reports (..., d) on vectors (..., d), zero outside the k drawn coordinates.

        Raises:
            ValueError: Another shape, or a number outside [-1, 1] or not finite.
        """
        vectors = self._vectors(x)
        rows = vectors.reshape(-1, self.d)
        # the k least of d random numbers stand at a uniformly random set of places
        keys = generator.random(rows.shape)
        drawn = np.argpartition(keys, self.k - 1, axis=1)[:, : self.k]
        reports = np.zeros(rows.shape)
        values = self.one.privatize(np.take_along_axis(rows, drawn, axis=1), generator)
        np.put_along_axis(reports, drawn, values * (self.d / self.k), axis=1)
        return reports.reshape(vectors.shape)

    def variance(self, x: ArrayLike) -> FloatArray:
        """Variance of each number of the report, in the shape of x."""
        x = self._vectors(x)
        return (self.d / self.k) * (self.one.variance(x) + x * x) - x * x

    @property
    def worst_variance(self) -> float:
        """The largest variance of a number of the report over the inputs."""
        v0, v1, v2 = self.one.quadratic
        scale = self.d / self.k
        return worst((scale * v0, scale * v1, scale * (v2 + 1) - 1))

    def _vectors(self, x: ArrayLike) -> FloatArray:
        vectors = on_interval(x)
        if vectors.ndim == 0 or vectors.shape[-1] != self.d:
            raise ValueError(f"x has shape {vectors.shape}; its last size must be d={self.d}")
        return vectors
