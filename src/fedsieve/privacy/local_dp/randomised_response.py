"""Randomised response over k answers.

Warner, "Randomized Response", JASA 1965; for k answers Kairouz, Oh, Viswanath, "Extremal Mechanisms
for Local Differential Privacy", NIPS 2014. With E = e^epsilon,

    P(y | x) = p = E / (E + k - 1) if y = x,    q = 1 / (E + k - 1) for every other answer.

From counts n_v of N reports the shares are estimated without bias by (n_v / N - q) / (p - q).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedsieve.privacy.local_dp._interval import FloatArray, check_epsilon
from fedsieve.registry import register


@register(
    "local-mechanism", "randomised-response", paper='Warner, "Randomized response", JASA 1965'
)
@dataclass(frozen=True)
class RandomisedResponse:
    """Reports the true answer of k, or any of the others.

    Args:
        epsilon: Budget of one answer, in [1e-6, 20].
        k: Possible answers 0..k-1, 2 <= k <= 2^31.

    Raises:
        ValueError: An argument out of range.

    Example:
        >>> RandomisedResponse(epsilon=3.0, k=4).privatize([0, 1, 2, 3], np.random.default_rng(0))
        array([0, 1, 0, 2])
    """

    epsilon: float
    k: int

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)
        if self.k != int(self.k) or not 2 <= self.k <= 2**31:
            raise ValueError(f"k={self.k} must be an integer, >= 2 and <= 2^31")
        object.__setattr__(self, "k", int(self.k))  # 4.0 is one, too

    @property
    def p(self) -> float:
        """Probability of the true answer."""
        E = math.exp(self.epsilon)
        return E / (E + self.k - 1)

    @property
    def q(self) -> float:
        """Probability of each other answer."""
        return 1 / (math.exp(self.epsilon) + self.k - 1)

    def masses(self, x: ArrayLike) -> FloatArray:
        """Probabilities (..., k) of the reports on the answers x (...)."""
        return np.where(self._answers(x)[..., None] == np.arange(self.k), self.p, self.q)

    def privatize(self, x: ArrayLike, generator: np.random.Generator) -> NDArray[np.int64]:
        """Reports on the answers x, independent of one another, of the same shape.

        Raises:
            ValueError: Something other than integers from 0 to k - 1.
        """
        answers = self._answers(x)
        lies = generator.random(answers.shape) < (self.k - 1) * self.q
        other = generator.integers(1, self.k, answers.shape)
        return (answers + np.where(lies, other, 0)) % self.k

    def estimate(self, reports: ArrayLike) -> FloatArray:
        """Unbiased shares (k,) of the answers from reports, some of them negative by chance.

        Raises:
            ValueError: No reports, or something other than integers from 0 to k - 1.
        """
        answers = self._answers(reports).ravel()
        if not len(answers):
            raise ValueError("reports is empty; needed is one or more")
        counts = np.bincount(answers, minlength=self.k)
        estimate: FloatArray = (counts / len(answers) - self.q) / self._told
        return estimate

    def variance(self, share: ArrayLike, reports: int) -> FloatArray:
        """Variance of an estimated share, given the true share in the population that reports."""
        s = np.asarray(share, dtype=np.float64)
        p, q = self.p, self.q
        return (s * p * (1 - p) + (1 - s) * q * (1 - q)) / (reports * self._told**2)

    @property
    def _told(self) -> float:
        """Difference p - q, to all its digits."""
        return math.expm1(self.epsilon) * self.q

    def _answers(self, x: ArrayLike) -> NDArray[np.int64]:
        answers = np.asarray(x)
        if answers.dtype.kind not in "iub":
            raise ValueError(f"x is of type {answers.dtype}; answers must be integers")
        outside = (answers < 0) | (answers >= self.k)
        if outside.any():
            raise ValueError(f"x holds {answers[outside][0]}; answers go from 0 to {self.k - 1}")
        return answers.astype(np.int64)
