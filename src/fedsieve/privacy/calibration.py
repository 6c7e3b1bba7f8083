"""From a wanted epsilon back to the noise, to the number of releases, or to the sampling rate.

Epsilon is monotone in each of them, so each is the root of one decreasing function. The search
starts from the Gaussian's classical formula, sigma = q sqrt(2 T log(1.25/delta)) / epsilon, goes
most of the way on a coarse loss grid and ends on the fine one. A coarse grid is never below the
fine one, so what it finds is on the safe side.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from functools import lru_cache

from fedsieve.privacy._pld import COARSE, FINE
from fedsieve.privacy.accounting import epsilon_of
from fedsieve.privacy.guarantee import (
    Event,
    Law,
    Relation,
    Sampling,
    check_epsilon,
    check_events,
    check_target,
)

TOLERANCE = 2e-4
"""Relative, of what is found: a multiplier is rounded up by no more, a sampling rate down."""

MOST_STEPS = 10**9

_ROUGH = 2e-3  # where the coarse grid stops being better than a guess


@lru_cache(maxsize=256)
def noise_multiplier(
    epsilon: float,
    sampling_rate: float,
    steps: int,
    delta: float,
    relation: Relation = "add-remove",
    law: Law = "gaussian",
    sampling: Sampling = "poisson",
) -> float:
    """The smallest noise multiplier that keeps within epsilon, rounded up by at most 0.02 %.

    Args:
        epsilon: Target, > 0.
        sampling_rate: Probability with which a record enters a step, in (0, 1].
        steps: Number of releases, >= 1; of epochs, where a record takes part once in one.
        delta: In (0, 1).
        relation: Neighbouring relation.
        law: Of the noise.
        sampling: How records come to the steps.

    Raises:
        ValueError: An argument out of range.

    Example:
        >>> round(noise_multiplier(2.0, 0.01, 1000, 1e-5), 3)
        0.959
    """
    _check(epsilon, delta, relation, sampling)
    if Event(1.0, sampling_rate, steps, law, sampling).steps == 0:
        raise ValueError("steps=0 releases nothing and needs no noise; steps must be >= 1")

    def spent(log_sigma: float, fineness: float) -> float:
        event = Event(math.exp(log_sigma), sampling_rate, steps, law, sampling)
        return epsilon_of((event,), delta, relation, fineness)[0]

    start = sampling_rate * math.sqrt(steps) * _gaussian(epsilon, delta)
    return math.exp(_smallest(spent, epsilon, math.log(max(start, 0.5))))


@lru_cache(maxsize=4096)
def max_steps(
    epsilon: float,
    noise_multiplier: float,
    sampling_rate: float,
    delta: float,
    relation: Relation = "add-remove",
    law: Law = "gaussian",
    sampling: Sampling = "poisson",
) -> int:
    """The largest number of equal releases that keeps within epsilon, at most 10^9; may be 0.

    Args:
        epsilon: Target, > 0.
        noise_multiplier: Noise standard deviation of the clipped sum over the clip, > 0.
        sampling_rate: Probability with which a record enters a step, in (0, 1].
        delta: In (0, 1).
        relation: Neighbouring relation.
        law: Of the noise.
        sampling: How records come to the steps.

    Raises:
        ValueError: An argument out of range.

    Example:
        >>> max_steps(2.0, 1.0, 0.01, 1e-5)
        1201
    """
    _check(epsilon, delta, relation, sampling)

    def after(steps: int, fineness: float = FINE) -> float:
        event = Event(noise_multiplier, sampling_rate, steps, law, sampling)
        return epsilon_of((event,), delta, relation, fineness)[0]

    if after(1) > epsilon:
        return 0

    def spent(x: float, fineness: float) -> float:
        return after(max(round(math.exp(-x)), 1), fineness) if x >= least else math.inf

    least = -math.log(MOST_STEPS)
    start = (noise_multiplier / (sampling_rate * _gaussian(epsilon, delta))) ** 2
    if start > MOST_STEPS / 100 and after(MOST_STEPS) <= epsilon:
        return MOST_STEPS
    found = _smallest(spent, epsilon, max(-math.log(max(start, 1.0)), least))
    low = max(round(math.exp(-found)), 1)
    reach = 1
    while low + reach <= MOST_STEPS and after(low + reach) <= epsilon:
        low, reach = low + reach, 2 * reach
    return (
        bisect.bisect_left(range(low + reach), True, lo=low + 1, key=lambda t: after(t) > epsilon)
        - 1
    )


@lru_cache(maxsize=256)
def max_sampling_rate(
    epsilon: float,
    noise_multiplier: float,
    steps: int,
    delta: float,
    relation: Relation = "add-remove",
    law: Law = "gaussian",
) -> float:
    """The largest sampling rate that keeps within epsilon, rounded down by at most 0.02 %.

    1.0 where no sampling is needed. Some rate always fits: less sampling reveals less.

    Args:
        epsilon: Target, > 0.
        noise_multiplier: Noise standard deviation of the clipped sum over the clip, > 0.
        steps: Number of releases, >= 0.
        delta: In (0, 1).
        relation: Neighbouring relation.
        law: Of the noise.

    Raises:
        ValueError: An argument out of range.

    Example:
        >>> round(max_sampling_rate(2.0, 1.0, 1000, 1e-5), 4)
        0.0109
    """
    _check(epsilon, delta, relation)
    full = Event(noise_multiplier, 1.0, steps, law)
    if steps == 0 or epsilon_of((full,), delta, relation, FINE)[0] <= epsilon:
        return 1.0

    def spent(x: float, fineness: float) -> float:
        event = Event(noise_multiplier, min(math.exp(-x), 1.0), steps, law)
        return epsilon_of((event,), delta, relation, fineness)[0]

    start = noise_multiplier / (math.sqrt(steps) * _gaussian(epsilon, delta))
    return min(math.exp(-_smallest(spent, epsilon, -math.log(min(start, 0.5)))), 1.0)


def _check(
    epsilon: float, delta: float, relation: Relation, sampling: Sampling = "poisson"
) -> None:
    check_target(delta, relation)
    check_epsilon(epsilon)
    check_events([Event(1.0, 1.0, 1, sampling=sampling)], relation)


def _gaussian(epsilon: float, delta: float) -> float:
    """Noise multiplier of a single release by the classical formula: where a search begins."""
    return math.sqrt(2 * math.log(1.25 / delta)) / epsilon


def _smallest(spent: Callable[[float, float], float], epsilon: float, start: float) -> float:
    """The smallest x, up to the tolerance from above, at which no more than epsilon is spent."""

    def excess(fineness: float) -> Callable[[float], float]:
        return lambda x: math.log(max(spent(x, fineness), 1e-9) / epsilon)

    rough, slope = _least_feasible(excess(COARSE), start, width=0.5, tolerance=_ROUGH)
    fine = excess(FINE)
    root = rough - fine(rough) / slope  # the two grids differ by next to a constant
    least, _ = _least_feasible(fine, root + TOLERANCE / 2, 0.9 * TOLERANCE, TOLERANCE)
    return least


def _least_feasible(
    excess: Callable[[float], float], start: float, width: float, tolerance: float
) -> tuple[float, float]:
    """Smallest x, up to the tolerance from above, with excess(x) <= 0, and the slope there.

    ``excess`` decreases; the search leaves the start in steps of the width, each twice the last.
    """
    low = high = start
    at_low = at_high = excess(start)
    while at_high > 0:
        low, at_low = high, at_high
        high, width = high + width, 2 * width
        at_high = excess(high)
    while at_low <= 0:
        high, at_high = low, at_low
        low, width = low - width, 2 * width
        at_low = excess(low)
    while high - low > tolerance:
        # the secant, aimed a little past the root so that both ends close in
        share = at_low / (at_low - at_high) if math.isfinite(at_low) else 0.5
        guess = low + (high - low) * share + 0.4 * tolerance
        guess = min(max(guess, low + 0.4 * tolerance), high - 0.4 * tolerance)
        if (value := excess(guess)) > 0:
            low, at_low = guess, value
        else:
            high, at_high = guess, value
    return high, (at_high - at_low) / (high - low) if math.isfinite(at_low) else -1.0
