"""Privacy loss distributions of a run's releases, composed by dp-accounting (Google).

The masses of one step (`fedsieve.privacy._loss`) become the library's objects; the composition, the
tails that it leaves out, epsilon and delta are its own. The pessimistic discretisation is an upper
bound for any grid spacing h; only its tightness depends on h. It adds a variance of about h^2/6 to
each step, so h is set to a small fraction of one step's standard deviation, which is at most
q sqrt(e^(1/sigma^2) - 1), and 2 q sqrt(sinh(1/sigma^2)) under replace-one.

The library composes T equal steps by the T-th power of a Fourier transform, which enlarges rounding
T times: delta is asked for with that to spare.
"""

from __future__ import annotations

import math
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedsieve.privacy._loss import Step, ends, one_step
from fedsieve.privacy.guarantee import Event, Relation

if TYPE_CHECKING:
    from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution

FINE, COARSE, ROUGH = 0.05, 0.15, 0.5
"""Grid spacing over one step's standard deviation: for answers (relative error of the noise
multiplier about 2e-4) and for the parts of a search before (about 2e-3 and 2e-2)."""

TAIL = 1e-15
"""Least mass of a composition that may be left out; it counts as an infinite loss."""

WIDEST = 5e-3  # spacing beyond which the curve's tail is no longer resolved
MOST_POINTS = 200_000  # of one step: 0.2 s
MOST_COMPOSED = 2_000_000  # of the composition: 0.2 GB and 1 s
MOST_LOSS = 500.0  # of one step: e^loss is a float
LEAST_DELTA = 1e-10
_MOST_EPSILON = 700.0  # of a profile: e^epsilon is a float

_NOISES = 0.02, 1e6  # less of it has losses beyond any grid, more of it none that a grid resolves
_LEAST_RATE = 1e-12
_TAIL = 1e-6  # of delta, for what a composition leaves out
_ROUNDING = 1e-15  # a step, of delta and of its mean loss; 5e-16 is the most that was measured


def pld_epsilon(
    events: tuple[Event, ...], delta: float, relation: Relation, fineness: float = FINE
) -> float:
    """Upper bound of epsilon by composing the events' loss distributions, at least one event.

    On a coarser grid where the wanted one cannot be afforded; infinite where none can, or where
    delta would drown in rounding.
    """
    rounding = _ROUNDING * sum(e.steps for e in events)
    if rounding > delta / 2:
        return math.inf
    for coarser in (1, 3, 10):
        spacing = grid_spacing(events, relation, coarser * fineness)
        if math.isinf(spacing):
            continue
        loss = composed_loss(events, relation, spacing, max(delta * _TAIL, TAIL))
        if math.isfinite(found := float(loss.get_epsilon_for_delta(delta - rounding))):
            return found + rounding
    return math.inf


def pld_profile(
    events: tuple[Event, ...], relation: Relation, points: int
) -> NDArray[np.float64] | None:
    """Pairs (epsilon, delta) that hold, (points, 2); ``None`` where no grid can be afforded."""
    rounding = _ROUNDING * sum(e.steps for e in events)
    spacing = grid_spacing(events, relation)
    if math.isinf(spacing):
        return None
    loss = composed_loss(events, relation, spacing)
    last = float(loss.get_epsilon_for_delta(max(LEAST_DELTA, 10 * rounding)))
    if not last <= _MOST_EPSILON:
        return None
    epsilons = np.linspace(0.0, last, points)
    deltas = np.clip(loss.get_delta_for_epsilon(epsilons) + rounding, 0.0, 1.0)
    return np.stack([epsilons + rounding, deltas], axis=1)


def grid_spacing(events: tuple[Event, ...], relation: Relation, fineness: float = FINE) -> float:
    """Spacing of the common loss grid, or infinity where no affordable grid is tight."""
    if any(not (_NOISES[0] <= e.noise_multiplier <= _NOISES[1]) or e.sampling_rate < _LEAST_RATE
           for e in events):  # fmt: skip
        return math.inf
    reached = [ends(e.noise_multiplier, e.sampling_rate, relation == "replace-one") for e in events]
    widest = max(high - low for low, high in reached)
    if not widest <= MOST_LOSS:
        return math.inf
    deviations = [_deviation(e, relation) for e in events]
    wanted = min(WIDEST, fineness * min(deviations))
    spacing = max(wanted, widest / MOST_POINTS * fineness / FINE)
    # sixteen standard deviations hold all but 1e-15 of the composed loss
    variance = sum(e.steps * d**2 for e, d in zip(events, deviations, strict=True))
    points = (16 * math.sqrt(variance) + widest) / spacing
    return spacing if spacing <= WIDEST and points <= MOST_COMPOSED else math.inf


def composed_loss(
    events: tuple[Event, ...], relation: Relation, spacing: float, tail: float = TAIL
) -> PrivacyLossDistribution:
    """The loss of all events, at least one, on a grid of this spacing."""
    each = tail / (2 * len(events))
    wholes = (_repeated(event, relation, spacing, each) for event in events)
    return reduce(lambda one, other: one.compose(other, each), wholes)


def _repeated(
    event: Event, relation: Relation, spacing: float, tail: float
) -> PrivacyLossDistribution:
    """The loss of all steps of an event."""
    # dense masses: the library's sparse ones are raised to the power by raising their number to it
    from dp_accounting.pld.pld_pmf import DensePLDPmf
    from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution

    steps, apart = event.steps, relation == "replace-one"
    ways = one_step(event.noise_multiplier, event.sampling_rate, apart, spacing)
    if steps == 1:
        return PrivacyLossDistribution(*(DensePLDPmf(spacing, *way, True) for way in ways))
    fitted = (_fitted(way, steps, tail) for way in ways)
    one = PrivacyLossDistribution(*(DensePLDPmf(spacing, *way, True) for way in fitted))
    return one.self_compose(steps, tail)


def _fitted(step: Step, steps: int, tail: float) -> Step:
    """The step with as many places as suit so many of it.

    The library bounds tails by Chernoff's inequality at slopes of 1 to 20 over the number of
    places. The highest places, of no more mass than the tail's part, become infinite; empty ones
    are added until the best slope for a normal law, of this tail, is at least 5.
    """
    first, masses, infinite = step
    above = np.cumsum(masses[::-1])
    cut = min(int(np.searchsorted(above, tail / steps, side="right")), len(masses) - 1)
    if cut:
        masses, infinite = masses[:-cut], infinite + float(above[cut - 1])
    places = np.arange(len(masses), dtype=np.float64)
    variance = steps * float((places - places @ masses) ** 2 @ masses)
    wanted = math.ceil(5 * math.sqrt(variance / (2 * math.log(2 / tail))))
    return Step(first, np.pad(masses, (0, max(wanted - len(masses), 0))), infinite)


def _deviation(event: Event, relation: Relation) -> float:
    """Standard deviation of one step's loss, from above."""
    mu, q = 1 / event.noise_multiplier, event.sampling_rate
    square = min(mu * mu, 700.0)
    if relation == "replace-one":
        return min(2 * q * math.sqrt(math.sinh(square)), 2 * mu)
    return min(q * math.sqrt(math.expm1(square)), mu)
