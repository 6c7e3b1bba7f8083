"""From a wanted epsilon back to the noise, to the number of releases, or to the sampling rate.

Epsilon is monotone in each of them, so each is the root of one decreasing function. The search
starts from the Gaussian's classical formula, sigma = q sqrt(2 T log(1.25/delta)) / epsilon, goes
most of the way on a coarse loss grid and ends on the fine one. A coarse grid is never below the
fine one, so what it finds is on the safe side.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

from fedsieve.privacy._pld import COARSE, FINE
from fedsieve.privacy._search import largest, least_feasible
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
    variance: float | None = None,
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
        variance: Of Skellam noise, in units of the integers.
        sampling: How records come to the steps.

    Raises:
        ValueError: An argument out of range.

    Example:
        >>> round(noise_multiplier(2.0, 0.01, 1000, 1e-5), 3)
        0.959
    """
    _check(epsilon, delta, relation, sampling)
    if Event(1.0, sampling_rate, steps, law, variance, sampling).steps == 0:
        raise ValueError("steps=0 releases nothing and needs no noise; steps must be >= 1")

    def at(log_sigma: float) -> Event:
        return Event(math.exp(log_sigma), sampling_rate, steps, law, variance, sampling)

    start = sampling_rate * math.sqrt(steps) * _gaussian(epsilon, delta)
    return math.exp(_smallest(at, epsilon, delta, relation, math.log(max(start, 0.5))))


@lru_cache(maxsize=4096)
def max_steps(
    epsilon: float,
    noise_multiplier: float,
    sampling_rate: float,
    delta: float,
    relation: Relation = "add-remove",
    law: Law = "gaussian",
    variance: float | None = None,
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
        variance: Of Skellam noise, in units of the integers.
        sampling: How records come to the steps.

    Raises:
        ValueError: An argument out of range.

    Example:
        >>> max_steps(2.0, 1.0, 0.01, 1e-5)
        1201
    """
    _check(epsilon, delta, relation, sampling)

    def released(steps: int) -> Event:
        return Event(noise_multiplier, sampling_rate, steps, law, variance, sampling)

    def fits(steps: int) -> bool:
        return _cost(released(steps), delta, relation) <= epsilon

    if not fits(1):
        return 0
    start = (noise_multiplier / (sampling_rate * _gaussian(epsilon, delta))) ** 2
    if start > MOST_STEPS / 100 and fits(MOST_STEPS):
        return MOST_STEPS

    def at(x: float) -> Event | None:
        return released(max(round(math.exp(-x)), 1)) if x >= -math.log(MOST_STEPS) else None

    start = min(max(start, 1.0), MOST_STEPS)
    found = _smallest(at, epsilon, delta, relation, -math.log(start))
    return largest(fits, max(round(math.exp(-found)), 1), MOST_STEPS)


@lru_cache(maxsize=256)
def max_sampling_rate(
    epsilon: float,
    noise_multiplier: float,
    steps: int,
    delta: float,
    relation: Relation = "add-remove",
    law: Law = "gaussian",
    variance: float | None = None,
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
        variance: Of Skellam noise, in units of the integers.

    Raises:
        ValueError: An argument out of range.

    Example:
        >>> round(max_sampling_rate(2.0, 1.0, 1000, 1e-5), 4)
        0.0109
    """
    _check(epsilon, delta, relation)

    def released(q: float) -> Event:
        return Event(noise_multiplier, q, steps, law, variance)

    if steps == 0 or _cost(released(1.0), delta, relation) <= epsilon:
        return 1.0

    def at(x: float) -> Event:
        return released(min(math.exp(-x), 1.0))

    start = noise_multiplier / (math.sqrt(steps) * _gaussian(epsilon, delta))
    found = _smallest(at, epsilon, delta, relation, -math.log(min(start, 0.5)))
    return min(math.exp(-found), 1.0)


def _check(
    epsilon: float, delta: float, relation: Relation, sampling: Sampling = "poisson"
) -> None:
    check_target(delta, relation)
    check_epsilon(epsilon)
    check_events([Event(1.0, 1.0, 1, sampling=sampling)], relation)


def _gaussian(epsilon: float, delta: float) -> float:
    """Noise multiplier of a single release by the classical formula: where a search begins."""
    return math.sqrt(2 * math.log(1.25 / delta)) / epsilon


def _cost(event: Event, delta: float, relation: Relation, fineness: float = FINE) -> float:
    return epsilon_of((event,), delta, relation, fineness)[0]


def _smallest(
    at: Callable[[float], Event | None],
    epsilon: float,
    delta: float,
    relation: Relation,
    start: float,
) -> float:
    """The smallest x, up to the tolerance from above, at which no more than epsilon is spent.

    ``at(x)`` is what is released: the more, the smaller x, and ``None`` beyond what may be asked.
    """

    def excess(fineness: float) -> Callable[[float], float]:
        def over(x: float) -> float:
            event = at(x)
            spent = math.inf if event is None else _cost(event, delta, relation, fineness)
            return math.log(max(spent, 1e-9 * epsilon) / epsilon)

        return over

    rough, slope = least_feasible(excess(COARSE), start, width=0.5, tolerance=_ROUGH)
    fine = excess(FINE)
    root = rough - fine(rough) / slope  # the two grids differ by next to a constant
    least, _ = least_feasible(fine, root + TOLERANCE / 2, 0.9 * TOLERANCE, TOLERANCE)
    return least
