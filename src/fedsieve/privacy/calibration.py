"""From a wanted epsilon back to the noise, to the number of releases, or to the sampling rate.

Epsilon is monotone in each of them, so each is the root of one decreasing function. The search
starts from the Gaussian's classical formula, sigma = q sqrt(2 T log(1.25/delta)) / epsilon, goes
most of the way on a coarse loss grid and ends on the fine one. A coarse grid is never below the
fine one, so what it finds is on the safe side.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

from fedsieve.privacy._known import never
from fedsieve.privacy._pld import COARSE, FINE, ROUGH
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
    epochs,
)

TOLERANCE = 2e-4
"""Relative, of what is found: a multiplier is rounded up by no more, a sampling rate down."""

MOST_STEPS = 10**9

_EXACT = 10**5  # steps: up to so many the largest number is found, beyond the tolerance holds
_STAGES = ((ROUGH, 2e-2), (COARSE, 2e-3))  # grids, and where they stop being better than a guess


@dataclass(frozen=True)
class _Target:
    """Epsilon that may be reached, under a statement."""

    epsilon: float
    delta: float
    relation: Relation

    def __post_init__(self) -> None:
        check_target(self.delta, self.relation)
        check_epsilon(self.epsilon)
        for name in ("epsilon", "delta"):
            object.__setattr__(self, name, float(getattr(self, name)))

    @property
    def gaussian(self) -> float:
        """Noise multiplier of one release by the classical formula: where a search begins."""
        return math.sqrt(2 * math.log(1.25 / self.delta)) / self.epsilon

    def excess(self, event: Event, fineness: float = FINE) -> float:
        """Logarithm of what is spent over what may be; beyond 10^-9 of it no matter how little."""
        spent = epsilon_of((event,), self.delta, self.relation, fineness)[0] if event.steps else 0.0
        return math.log(max(spent, 1e-9 * self.epsilon) / self.epsilon)

    def fits(self, event: Event) -> bool:
        """Whether no more is spent than may be."""
        return self.excess(event) <= 0

    def smallest(self, at: Callable[[float], Event | None], start: float) -> float:
        """The smallest x, up to the tolerance from above, at which ``at(x)`` fits.

        ``at(x)`` is what is released: the more, the smaller x, and ``None`` beyond what may be
        asked.
        """

        def excess(fineness: float) -> Callable[[float], float]:
            return lambda x: math.inf if (e := at(x)) is None else self.excess(e, fineness)

        width = 0.5
        for fineness, tolerance in _STAGES:
            over = excess(fineness)
            start, slope = least_feasible(over, start, width, tolerance)
            width = tolerance
        fine = excess(FINE)
        root = start - fine(start) / slope  # the two grids differ by next to a constant
        least, _ = least_feasible(fine, root + TOLERANCE / 2, 0.9 * TOLERANCE, TOLERANCE)
        return least


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
        ValueError: An argument out of range, or a delta that allows to send every record in the
            clear that is ever used.

    Example:
        >>> round(noise_multiplier(2.0, 0.01, 1000, 1e-5), 3)
        0.959
    """
    target = _Target(epsilon, delta, relation)
    least = Event(1.0, sampling_rate, steps, law, variance, sampling)
    check_events([least], relation)
    if steps == 0:
        raise ValueError("steps=0 releases nothing and needs no noise; steps must be >= 1")
    if never((least,), delta):
        raise ValueError(
            f"delta={delta!r} is no less than the probability that a record is ever used "
            f"(sampling_rate={sampling_rate!r}, steps={steps}), so that no noise at all would do; "
            "choose delta far below one in the number of records"
        )

    def at(log_sigma: float) -> Event:
        return replace(least, noise_multiplier=math.exp(min(log_sigma, 709.0)))

    start = min(max(least.sampling_rate * math.sqrt(least.steps) * target.gaussian, 0.5), 1e300)
    return math.exp(target.smallest(at, math.log(start)))


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

    Beyond 10^5 it is rounded down by at most 0.02 %.

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
    target = _Target(epsilon, delta, relation)
    one = Event(noise_multiplier, sampling_rate, 1, law, variance, sampling)
    check_events([one], relation)

    def fits(steps: int) -> bool:
        return target.fits(replace(one, steps=steps))

    if not fits(1):
        return 0
    if fits(MOST_STEPS):
        return MOST_STEPS

    def at(x: float) -> Event | None:
        steps = max(round(math.exp(-x)), 1)
        return replace(one, steps=steps) if steps <= MOST_STEPS else None

    root = one.noise_multiplier / max(one.sampling_rate * target.gaussian, 1e-300)
    start = min(max(root, 1.0), math.sqrt(MOST_STEPS)) ** 2
    found = target.smallest(at, -math.log(start))
    steps = max(round(math.exp(-found)), 1)
    return steps if steps > _EXACT else largest(fits, steps, MOST_STEPS)


@lru_cache(maxsize=256)
def max_sampling_rate(
    epsilon: float,
    noise_multiplier: float,
    steps: int,
    delta: float,
    relation: Relation = "add-remove",
    law: Law = "gaussian",
    variance: float | None = None,
    sampling: Sampling = "poisson",
) -> float:
    """The largest sampling rate that keeps within epsilon, rounded down by at most 0.02 %.

    1.0 where no sampling is needed. With Poisson sampling some rate always fits: less sampling
    reveals less.

    Args:
        epsilon: Target, > 0.
        noise_multiplier: Noise standard deviation of the clipped sum over the clip, > 0.
        steps: Number of releases, >= 0, whatever the sampling: how many epochs they begin follows
            from the rate.
        delta: In (0, 1).
        relation: Neighbouring relation.
        law: Of the noise.
        variance: Of Skellam noise, in units of the integers.
        sampling: How records come to the steps.

    Raises:
        ValueError: An argument out of range, or no rate fits because a single epoch does not.

    Example:
        >>> round(max_sampling_rate(2.0, 1.0, 1000, 1e-5), 4)
        0.0109
    """
    target = _Target(epsilon, delta, relation)
    every = Event(noise_multiplier, 1.0, steps, law, variance, sampling)
    check_events([every], relation)
    if target.fits(every):
        return 1.0
    if sampling != "poisson":
        return 1 / _least_batches(target, every)

    def at(x: float) -> Event:
        return replace(every, sampling_rate=min(math.exp(-min(x, 700.0)), 1.0))

    start = every.noise_multiplier / (math.sqrt(every.steps) * target.gaussian)
    return min(math.exp(-target.smallest(at, -math.log(min(max(start, 1e-9), 0.5)))), 1.0)


def _least_batches(target: _Target, every: Event) -> int:
    """Steps of the shortest epoch with which as many releases as ``every`` has steps fit."""

    def at(x: float) -> Event | None:
        if x < 0:
            return None
        t = round(math.exp(x))
        return replace(every, sampling_rate=1 / t, steps=epochs(every.steps, t))

    longest = at(math.log(MOST_STEPS))
    assert longest is not None
    if not target.fits(longest):
        raise ValueError(
            f"epsilon={target.epsilon} with sampling={every.sampling!r}: a single epoch costs more "
            f"at noise_multiplier={every.noise_multiplier}, however many steps it has; allowed are "
            "more noise, a larger epsilon, or sampling='poisson'"
        )
    return round(math.exp(target.smallest(at, math.log(max(every.steps, 2)))))
