"""Privacy loss distributions of a run's releases, on a grid fitted to them.

The pessimistic discretisation (`fedsieve.privacy._loss`) is an upper bound for any grid spacing h;
only its tightness depends on h. It adds a variance of about h^2/6 to each step, so h is set to a
small fraction of one step's standard deviation, which is at most q sqrt(e^(1/sigma^2) - 1), and
2 q sqrt(sinh(1/sigma^2)) under replace-one.
"""

from __future__ import annotations

import math

from fedsieve.privacy._loss import TAIL, Loss, compose, ends, one_step
from fedsieve.privacy.guarantee import Event, Relation

FINE, COARSE, ROUGH = 0.05, 0.15, 0.5
"""Grid spacing over one step's standard deviation: for answers (relative error of the noise
multiplier about 2e-4) and for the parts of a search before (about 2e-3 and 2e-2)."""

WIDEST = 5e-3  # spacing beyond which the curve's tail is no longer resolved
MOST_POINTS = 400_000  # of one step: 0.1 s
MOST_COMPOSED = 2_000_000  # of the composition: 0.1 GB and 0.5 s
MOST_LOSS = 500.0  # of one step: e^loss is a float
LEAST_DELTA = 1e-10  # the FFT's rounding, about 1e-16 a point, must stay far below delta


_NOISES = 0.02, 1e6  # less of it has losses beyond any grid, more of it none that a grid resolves
_LEAST_RATE = 1e-12
_TAIL = 1e-6  # of delta, for what the window of a composition leaves out
_ROUNDING = 1e-15  # of a step's mean loss


def pld_epsilon(
    events: tuple[Event, ...], delta: float, relation: Relation, fineness: float = FINE
) -> float:
    """Upper bound of epsilon by composing the events' loss distributions, at least one event.

    On a coarser grid where the wanted one cannot be afforded; infinite where none can.
    """
    tail = max(delta * _TAIL, TAIL)
    for coarser in (1, 3, 10):
        spacing = grid_spacing(events, relation, coarser * fineness)
        if math.isinf(spacing):
            continue
        composed = composed_loss(events, relation, spacing, tail)
        if math.isfinite(found := max(one.epsilon(delta) for one in composed)):
            return found + _ROUNDING * sum(e.steps for e in events)
    return math.inf


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
) -> tuple[Loss, ...]:
    """The loss of all events, at least one, in both directions or in the only one there is."""
    steps = [
        one_step(e.noise_multiplier, e.sampling_rate, relation == "replace-one", spacing)
        for e in events
    ]
    times = [e.steps for e in events]
    directions = max(len(step) for step in steps)
    return tuple(
        compose(
            [(step[min(way, len(step) - 1)], t) for step, t in zip(steps, times, strict=True)], tail
        )
        for way in range(directions)
    )


def _deviation(event: Event, relation: Relation) -> float:
    """Standard deviation of one step's loss, from above."""
    mu, q = 1 / event.noise_multiplier, event.sampling_rate
    square = min(mu * mu, 700.0)
    if relation == "replace-one":
        return min(2 * q * math.sqrt(math.sinh(square)), 2 * mu)
    return min(q * math.sqrt(math.expm1(square)), mu)
