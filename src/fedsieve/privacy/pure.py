"""Composition of releases that are each epsilon_t-DP, without a delta of their own.

P. Kairouz, S. Oh, P. Viswanath, "The Composition Theorem for Differential Privacy", ICML 2015. For
adaptively chosen releases with epsilon_1, ..., epsilon_T and any delta in (0, 1), the advanced
theorem (3.5 there) gives (epsilon, delta)-DP with epsilon the least of::

    sum_t e_t
    sum_t e_t tanh(e_t / 2) + sqrt(2 log(1/delta) sum_t e_t^2)
    sum_t e_t tanh(e_t / 2) + sqrt(2 log(e + sqrt(sum_t e_t^2) / delta) sum_t e_t^2)

Nothing is lost by computing instead: the worst epsilon_t-DP release is a randomised response, whose
privacy loss is +-e_t with probabilities 1 / (1 + exp(-+e_t)). The losses add up to a law p on the
real line, and the composition is (epsilon, delta)-DP if and only if

    sum_x p(x) max(1 - exp(epsilon - x), 0) <= delta.

Here p is computed by one Fourier transform, each e_t rounded up to a common grid: an upper bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedsieve.privacy.guarantee import check_target

LEAST_DELTA = 1e-9
"""Below it the rounding of the transform, up to `_ROUNDING`, would be felt: `advanced_composition`
answers there."""

_MOST_EPSILON = 700.0  # exp of it is still a float64, and nobody needs it exactly
_ROUNDING = 1e-10
_SLACK = 1e-12  # relative, of the division that finds a place on the grid
_FINENESS = 8000  # points of the loss grid for each release
_POINTS = 2**20  # of the whole grid
_WORK = 5e7  # grid points times distinct epsilons: a second


def advanced_composition(epsilons: Sequence[float], delta: float) -> float:
    """Epsilon of the composition by the theorem, in closed form.

    Args:
        epsilons: Of the releases, each > 0.
        delta: In (0, 1).

    Raises:
        ValueError: An argument outside these ranges.

    Example:
        >>> round(advanced_composition([0.1] * 100, 1e-5), 3)
        5.298
    """
    e = _checked(epsilons, delta)
    squares = float(e @ e)
    mean = float(e @ np.tanh(e / 2))
    room = min(math.log(1 / delta), math.log(math.e + math.sqrt(squares) / delta))
    return min(float(e.sum()), mean + math.sqrt(2 * room * squares))


def optimal_composition(epsilons: Sequence[float], delta: float) -> float:
    """The smallest epsilon that holds for all releases with these epsilons, rounded up.

    Args:
        epsilons: Of the releases, each > 0.
        delta: In (0, 1).

    Raises:
        ValueError: An argument outside these ranges.

    Example:
        >>> round(optimal_composition([0.1] * 100, 1e-5), 3)
        4.307
    """
    e = _checked(epsilons, delta)
    bound = advanced_composition(epsilons, delta)
    if delta < LEAST_DELTA or not len(e) or bound > _MOST_EPSILON:
        return bound
    points = min(_FINENESS * len(e), _POINTS, _WORK / len(np.unique(e)))
    spacing = 2 * float(e.sum()) / points
    if e.min() > spacing:  # equal epsilons then lie on it exactly
        spacing = float(e.min()) / (e.min() // spacing)
    on_grid = np.ceil(e / spacing * (1 - _SLACK)).astype(np.int64)
    steps, counts = np.unique(on_grid, return_counts=True)
    law = _law(steps, counts, spacing)
    losses = spacing * (np.arange(len(law)) - len(law) // 2)
    tail = np.cumsum(law[::-1])[::-1]  # P(loss >= x)
    tilted = np.cumsum((law * np.exp(-np.maximum(losses, 0)))[::-1])[::-1]
    room = delta - _ROUNDING
    tried = np.flatnonzero((losses >= 0) & (losses <= bound))
    exceeds = tail[tried] - np.exp(losses[tried]) * tilted[tried] > room
    if not exceeds.any():
        return 0.0
    first = tried[np.flatnonzero(exceeds)[-1]] + 1  # epsilon lies between this loss and the last
    return min(bound, math.log((tail[first] - room) / tilted[first]) * (1 + 2 * _SLACK))


def _law(
    steps: NDArray[np.int64], counts: NDArray[np.int64], spacing: float
) -> NDArray[np.float64]:
    """Probabilities of the sum of independent losses +-steps, each so many times, around zero."""
    reach = int(steps @ counts)
    size = 1 << (2 * reach).bit_length()
    frequencies = 2 * np.pi / size * np.arange(size // 2 + 1)
    transform = np.ones(len(frequencies), dtype=np.complex128)
    for step, count in zip(steps, counts, strict=True):
        angle = frequencies * step
        transform *= (np.cos(angle) - 1j * np.tanh(step * spacing / 2) * np.sin(angle)) ** count
    law = np.fft.irfft(transform, size)
    return np.asarray(np.maximum(np.concatenate([law[size - reach :], law[: reach + 1]]), 0))


def _checked(epsilons: Sequence[float], delta: float) -> NDArray[np.float64]:
    check_target(delta, "replace-one")
    e = np.asarray(epsilons, dtype=np.float64)
    if not (np.isfinite(e) & (e > 0)).all():
        raise ValueError(f"epsilons={list(epsilons)} must all be finite and > 0")
    return e
