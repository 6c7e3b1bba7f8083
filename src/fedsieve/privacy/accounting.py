"""From the events of a run to epsilon, and from a wanted epsilon to the noise.

The guarantee of a run is that of its releases, each a Poisson-sampled Gaussian mechanism on a
clipped sum, composed adaptively. It does not depend on the message's dimension or on the
projection, as long as the sum was clipped *after* projecting and the projection is public.

Privacy loss distributions (PLD) give the answer; Renyi accounting (RDP) takes over where their grid
would exceed a hundred thousand points for one step or four million for the composition (very
small noise, very many steps), or where delta < 1e-10 would drown in the FFT's rounding. Both are
upper bounds. Central-limit figures are not, and are not offered.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

from fedsieve.privacy._pld import COARSE, FINE, LEAST_DELTA, grid_spacing, pld_epsilon
from fedsieve.privacy._rdp import rdp_epsilon
from fedsieve.privacy.guarantee import Event, Guarantee, Relation, Unit, check_target, merge

PLD = "PLD (dp-accounting, pessimistic)"
RDP = "RDP (dp-accounting)"
RDP_REPLACE = "RDP (weak triangle inequality)"
TOLERANCE = 2e-4  # relative, of a calibrated noise multiplier


def compose(
    events: Iterable[Event],
    delta: float,
    relation: Relation = "add-remove",
    unit: Unit = "record",
) -> Guarantee:
    """The guarantee of all events together, in any order, each chosen after seeing the others.

    Raises:
        ValueError: delta, relation or unit out of range.
    """
    check_target(delta, relation, unit)
    merged = merge(events)
    epsilon, accountant = _epsilon(merged, delta, relation, FINE) if merged else (0.0, PLD)
    return Guarantee(epsilon, delta, unit, relation, accountant, merged)


def epsilon(
    noise_multiplier: float,
    sampling_rate: float,
    steps: int,
    delta: float,
    relation: Relation = "add-remove",
    unit: Unit = "record",
) -> Guarantee:
    """The guarantee of equal releases.

    Args:
        noise_multiplier: Noise standard deviation of the clipped sum over the clip, > 0.
        sampling_rate: Probability with which a record enters a step, in (0, 1].
        steps: Number of releases, >= 0.
        delta: In (0, 1).
        relation: Neighbouring relation.
        unit: What is protected.

    Example:
        >>> round(epsilon(1.0, 0.01, 1000, 1e-5).epsilon, 2)
        1.83
    """
    return compose([Event(noise_multiplier, sampling_rate, steps)], delta, relation, unit)


@lru_cache(maxsize=256)
def noise_multiplier(
    epsilon: float,
    sampling_rate: float,
    steps: int,
    delta: float,
    relation: Relation = "add-remove",
) -> float:
    """The smallest noise multiplier that keeps within epsilon, rounded up by at most 0.02 %.

    Args:
        epsilon: Target, > 0.
        sampling_rate: Probability with which a record enters a step, in (0, 1].
        steps: Number of releases, >= 1.
        delta: In (0, 1).
        relation: Neighbouring relation.

    Raises:
        ValueError: An argument out of range.
    """
    check_target(delta, relation)
    _check_epsilon(epsilon)
    if Event(1.0, sampling_rate, steps).steps == 0:
        raise ValueError("steps=0 releases nothing and needs no noise; steps must be >= 1")

    def excess(log_sigma: float, fineness: float) -> float:
        event = Event(math.exp(log_sigma), sampling_rate, steps)
        return math.log(max(_epsilon((event,), delta, relation, fineness)[0], 1e-9) / epsilon)

    # The coarse grid is never below the fine one, so its answer is a feasible upper end.
    gaussian = sampling_rate * math.sqrt(2 * steps * math.log(1.25 / delta)) / epsilon
    rough = _least_feasible(
        lambda x: excess(x, COARSE), math.log(max(gaussian, 0.5)), width=0.5, tolerance=2e-3
    )
    exact = _least_feasible(lambda x: excess(x, FINE), rough, width=4e-3, tolerance=TOLERANCE)
    return math.exp(exact)


@lru_cache(maxsize=4096)
def max_steps(
    epsilon: float,
    noise_multiplier: float,
    sampling_rate: float,
    delta: float,
    relation: Relation = "add-remove",
) -> int:
    """The largest number of equal releases that keeps within epsilon, at most 10^9; may be 0."""
    check_target(delta, relation)
    _check_epsilon(epsilon)

    def fits(steps: int) -> bool:
        event = Event(noise_multiplier, sampling_rate, steps)
        return _epsilon((event,), delta, relation, FINE)[0] <= epsilon

    most = 10**9
    high = 1
    while high < most and fits(high):
        high = min(2 * high, most)
    return bisect.bisect_left(range(high + 1), True, lo=1, key=lambda t: not fits(t)) - 1


def epsilon_curve(
    noise_multiplier: float,
    sampling_rate: float,
    steps: Sequence[int],
    delta: float,
    relation: Relation = "add-remove",
    points: int = 24,
) -> list[float]:
    """Epsilon after each of the given numbers of steps, from above.

    Composing for every round would cost more than the round (10 ms against 5). Epsilon is computed
    at no more than ``points`` of the given counts, closer together at the start where it grows
    fastest; a count between takes the value of the next computed one, an upper bound. The largest
    count is always computed, so the end is exact.

    Args:
        noise_multiplier: Noise standard deviation of the clipped sum over the clip, > 0.
        sampling_rate: Probability with which a record enters a step, in (0, 1].
        steps: Step counts in increasing order, such as one per round.
        delta: In (0, 1).
        relation: Neighbouring relation.
        points: How many counts to compute, >= 1.

    Raises:
        ValueError: ``steps`` decreases, or an argument is out of range.
    """
    if points < 1:
        raise ValueError(f"points={points} must be >= 1")
    if any(b < a for a, b in itertools.pairwise(steps)):
        raise ValueError("steps must not decrease")
    if not steps:
        return []
    places = (math.ceil(len(steps) * (i / points) ** 2) for i in range(1, points + 1))
    computed = sorted({steps[place - 1] for place in places})
    values = [
        epsilon(noise_multiplier, sampling_rate, t, delta, relation).epsilon for t in computed
    ]
    return [values[bisect.bisect_left(computed, t)] for t in steps]


@lru_cache(maxsize=1024)
def _epsilon(
    events: tuple[Event, ...], delta: float, relation: Relation, fineness: float
) -> tuple[float, str]:
    spacing = grid_spacing(events, relation, fineness)
    if delta >= LEAST_DELTA and math.isfinite(spacing):
        return pld_epsilon(events, delta, relation, spacing), PLD
    name = RDP_REPLACE if relation == "replace-one" else RDP
    return rdp_epsilon(events, delta, relation), name


def _check_epsilon(epsilon: float) -> None:
    if not (math.isfinite(epsilon) and epsilon > 0):
        raise ValueError(f"epsilon={epsilon} must be finite and > 0")


def _least_feasible(
    excess: Callable[[float], float], start: float, width: float, tolerance: float
) -> float:
    """Smallest x, up to the tolerance from above, with excess(x) <= 0; excess decreases."""
    low = high = start
    at_low = at_high = excess(start)
    while at_high > 0:
        low, at_low = high, at_high
        high += width
        at_high = excess(high)
    while at_low <= 0:
        high, at_high = low, at_low
        low -= width
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
    return high
