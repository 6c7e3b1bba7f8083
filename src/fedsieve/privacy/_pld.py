"""Privacy loss distributions of Poisson-sampled Gaussian releases, on a grid fitted to them.

The pessimistic discretisation (Doroshenko, Ghazi, Kamath, Kumar, Manurangsi, "Connect the Dots:
Tighter Discrete Approximations of Privacy Loss Distributions", PETS 2022) is an upper bound for any
grid spacing h; only its tightness depends on h. It adds a variance of about h^2/6 to each step, so
h is set to a small fraction of one step's standard deviation, q sqrt(e^(1/sigma^2) - 1).
dp-accounting is imported on first use: it takes about a second.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

from fedsieve.privacy.guarantee import Event, Relation, sensitivity

FINE, COARSE = 0.05, 0.15
"""Grid spacing over one step's standard deviation: for answers (relative error of the noise
multiplier about 2e-4) and for the first part of a search (about 2e-3)."""

WIDEST = 1e-3  # spacing beyond which the curve's tail is no longer resolved
MOST_POINTS = 100_000  # of one step: dp-accounting builds them in Python, 4 us each
MOST_COMPOSED = 4_000_000  # of the composition: complex FFTs of this length take 0.2 GB and 1.5 s
MOST_RARE = 10**12  # steps over the rate: beyond, the library makes room for tails of terabytes
LEAST_DELTA = 1e-10  # the FFT's rounding, about 1e-16 a point, must stay far below delta


def grid_spacing(events: tuple[Event, ...], relation: Relation, fineness: float = FINE) -> float:
    """Spacing of the common loss grid, or infinity where no affordable grid is tight."""
    if any(e.steps > MOST_RARE * e.sampling_rate for e in events):
        return math.inf
    widest_step = max(_range(e, relation) for e in events)
    wanted = min(WIDEST, fineness * min(_deviation(e, relation) for e in events))
    spacing = max(wanted, widest_step / MOST_POINTS * fineness / FINE)
    # sixteen standard deviations hold all but 1e-15 of the composed loss
    variance = sum(e.steps * _deviation(e, relation) ** 2 for e in events)
    points = (16 * math.sqrt(variance) + widest_step) / spacing
    return spacing if spacing <= WIDEST and points <= MOST_COMPOSED else math.inf


def pld_epsilon(
    events: tuple[Event, ...], delta: float, relation: Relation, spacing: float
) -> float:
    """Upper bound of epsilon by composing the events' loss distributions, at least one event."""
    return float(composed_loss(events, relation, spacing).get_epsilon_for_delta(delta))


def composed_loss(events: tuple[Event, ...], relation: Relation, spacing: float) -> Any:
    """dp-accounting's loss distribution of all events, at least one."""
    total: Any = None
    for e in events:
        one = _one_step(e.noise_multiplier, e.sampling_rate, relation, spacing)
        composed = one.self_compose(e.steps)
        total = composed if total is None else total.compose(composed)
    return total


@lru_cache(maxsize=8)
def _one_step(noise_multiplier: float, q: float, relation: Relation, spacing: float) -> Any:
    from dp_accounting import NeighboringRelation
    from dp_accounting.pld import privacy_loss_distribution

    return privacy_loss_distribution.from_gaussian_mechanism(
        noise_multiplier,
        sampling_prob=q,
        value_discretization_interval=spacing,
        neighboring_relation=_library_relation(NeighboringRelation, relation),
    )


def _library_relation(names: Any, relation: Relation) -> Any:
    return {
        "add-remove": names.ADD_OR_REMOVE_ONE,
        "replace-one": names.REPLACE_ONE,
        "zero-out": names.REPLACE_SPECIAL,
    }[relation]


def _scale(event: Event, relation: Relation) -> float:
    """Sensitivity over noise."""
    return sensitivity(relation) / event.noise_multiplier


def _deviation(event: Event, relation: Relation) -> float:
    """Standard deviation of one step's loss, from above."""
    mu = _scale(event, relation)
    sampled = event.sampling_rate * math.sqrt(math.expm1(min(mu * mu, 700.0)))
    return min(sampled, mu)


def _range(event: Event, relation: Relation) -> float:
    """Width of one step's loss at ten standard deviations of the noise, where the library cuts."""
    mu, q = _scale(event, relation), event.sampling_rate
    highest = mu * 10 + mu * mu / 2
    if q == 1:
        return 2 * mu * 10
    return math.log1p(q * math.expm1(min(highest, 700.0))) - math.log1p(-q)
