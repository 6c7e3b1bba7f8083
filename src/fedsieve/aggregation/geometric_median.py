"""The geometric median by smoothed Weiszfeld steps (RFA).

Pillutla, Kakade, Harchaoui, "Robust aggregation for federated learning", IEEE Transactions on
Signal Processing 2022. With client weights alpha, the minimiser of sum_i alpha_i ||x_i - z|| by

    beta_i = alpha_i / max(nu, ||z - x_i||),    z <- sum_i beta_i x_i / sum_i beta_i.

RFA takes a few such steps from the mean. Run to convergence they start from the message x_j of
smallest summed distance, which no far row can spoil. If the others' pull on it,
r = ||sum_i alpha_i (x_i - x_j) / ||x_i - x_j|| ||, is at most alpha_j, it is the minimiser itself;
otherwise the first step leaves it for (1 - alpha_j/r) T + (alpha_j/r) x_j, with T the step that
leaves x_j out (Vardi and Zhang, "The multivariate L1-median and associated data depth", 2000).
After two steps a jump along them is kept if it lowers the objective (Varadhan and Roland, "Simple
and globally convergent methods for accelerating the convergence of any EM algorithm", 2008). z is
kept as weights w, z = w^T X; all distances come from the Gram.

Objectives are compared less their value at the centre of the Gram, message by message: beside a row
at 1e30, the sum of the distances themselves would hold no digit of the others'.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fedsieve._arguments import integer, real
from fedsieve.aggregation._door import FloatArray
from fedsieve.aggregation._gram import (
    GramRule,
    squared_distances,
    squared_distances_to,
    summed_distances,
)
from fedsieve.aggregation.facts import Facts
from fedsieve.aggregation.rule import largest_share, minority
from fedsieve.registry import register

TOLERANCE = 1e-9  # of the median distance; a shorter step is the last one
NEAR_TIE = 1e-9  # of the pull: that much more may be rounding
STEPS = 1000  # at most; some 30 are usual


@register("rule", "geometric-median", paper='Pillutla et al., "Robust aggregation for FL", 2022')
@dataclass(frozen=True)
class GeometricMedian(GramRule):
    """Geometric median: the point of smallest summed distance to the messages.

    Client weights are the alpha of the objective.

    Args:
        f: Number of Byzantine clients, 2f < n.
        nu: Smallest distance that counts, relative to the median distance from the start; > 0.
        iterations: Take so many steps from the mean, as RFA does, where 3 are usual. A single far
            row spoils the mean and with it the first steps, so that this form is not robust.
            Default: until a step is shorter than 1e-9 of the median distance, at most 1000.

    Raises:
        ValueError: ``f`` is not an integer >= 0, ``nu`` not finite and > 0, ``iterations`` none
            >= 1.

    Example:
        >>> import torch
        >>> GeometricMedian(f=1)(torch.tensor([[1.0], [2.0], [3.0], [2.0], [99.0]]))
        tensor([2.])
    """

    nu: float = 1e-6
    iterations: int | None = None
    lacks: ClassVar[Facts] = Facts.AVERAGES

    def __post_init__(self) -> None:
        super().__post_init__()
        real(self, "nu", above=0)
        integer(self, "iterations", 1, none="to converge")

    @property
    def facts(self) -> Facts:
        """A far row asks for more steps the farther it is; a fixed number is not robust."""
        return super().facts & ~(Facts.ROBUST if self.iterations else Facts.NONE)

    def breakdown(self, n: int) -> int:
        """2f < n."""
        return minority(n)

    def kappa(self, n: int) -> float | None:
        """4 (1 + f/(n - 2f))^2 (Allouah et al., "Fixing by mixing", 2023); none for fixed steps."""
        self.check(n)
        return None if self.iterations else 4 * (1 + self.f / (n - 2 * self.f)) ** 2

    def _solve(self, G: FloatArray, removed: int, share: FloatArray | None) -> FloatArray:
        n = len(G)
        alpha = np.full(n, 1 / n) if share is None else share
        largest_share(share, n, self.f - removed)
        if self.iterations:
            return _fixed(G, alpha, self.nu, self.iterations)
        start = int(np.argmin(np.where(alpha > 0, summed_distances(G, alpha), np.inf)))
        w = _departure(G, alpha, np.sqrt(squared_distances(G)[start]), start)
        return w if w[start] == 1 else _converged(G, alpha, w, self.nu)


def _departure(G: FloatArray, alpha: FloatArray, d: FloatArray, j: int) -> FloatArray:
    """Weights of the first step from message j, or of the message itself if it is the median."""
    there = np.zeros(len(G))
    there[j] = 1
    beta = np.divide(alpha, d, out=np.zeros(len(G)), where=d > 0)
    own = alpha[d == 0].sum()  # with all messages equal to it
    if (total := beta.sum()) == 0:
        return there
    T = beta / total
    pull = total * np.sqrt(squared_distances_to(G, T)[j])
    return there if pull <= own * (1 + NEAR_TIE) else (1 - own / pull) * T + own / pull * there


@dataclass(frozen=True, eq=False)
class _Weiszfeld:
    """The step w -> beta / sum beta on the messages of a Gram; nearer than nu counts as nu."""

    G: FloatArray
    alpha: FloatArray
    nu: float

    def __call__(self, w: FloatArray) -> tuple[FloatArray, float]:
        """The next weights, and the objective before, less what it is for the centre of G.

        ||x_i - z|| - ||x_i|| = (||z||^2 - 2 <x_i, z>) / (||x_i - z|| + ||x_i||) term by term.
        """
        squares, Gw = np.maximum(np.diagonal(self.G), 0), self.G @ w
        more = w @ Gw - 2 * Gw
        d = np.sqrt(np.maximum(squares + more, 0))
        far = d + np.sqrt(squares)
        excess = np.divide(more, far, out=np.zeros(len(w)), where=far > 0)
        beta = self.alpha / np.maximum(self.nu, d)
        return beta / beta.sum(), float(self.alpha @ excess)

    def length(self, moved: FloatArray) -> float:
        """Length of a difference of two points, given that of their weights."""
        square = float(moved @ self.G @ moved)
        return float(np.sqrt(max(square, 0.0)))


def _middle(G: FloatArray, w: FloatArray) -> float:
    return float(np.median(np.sqrt(squared_distances_to(G, w))))


def _fixed(G: FloatArray, alpha: FloatArray, nu: float, steps: int) -> FloatArray:
    w, middle = alpha, _middle(G, alpha)
    step = _Weiszfeld(G, alpha, nu * middle)
    for _ in range(steps if middle > 0 else 0):
        w, _ = step(w)
    return w


def _converged(G: FloatArray, alpha: FloatArray, w: FloatArray, nu: float) -> FloatArray:
    middle = _middle(G, w)
    step = _Weiszfeld(G, alpha, nu * middle)
    for _ in range(STEPS // 3 if middle > 0 else 0):
        once, _ = step(w)
        twice, objective = step(once)
        first, second = once - w, twice - once
        if (length := step.length(first)) <= TOLERANCE * middle:
            return once
        ahead = max(length / max(step.length(second - first), TOLERANCE * length), 1.0)
        jump = w + 2 * ahead * first + ahead**2 * (second - first)
        after, reached = step(jump)
        w = after if reached < objective else twice
    return w
