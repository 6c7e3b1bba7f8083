"""From the events of a run to epsilon.

The guarantee of a run is that of its releases, each a Poisson-sampled Gaussian mechanism on a
clipped sum, composed adaptively. It does not depend on the message's dimension or on the
projection, as long as the sum was clipped *after* projecting and the projection is public.

Releases without sampling are one Gaussian mechanism, whose epsilon is known exactly. For all others
dp-accounting (Google) composes privacy loss distributions (PLD). Where no grid is affordable (very
small noise, very many steps: beyond two million points of the composition), or where delta would
drown in the FFT's rounding (below 1e-10, or 2e-15 a step), the lesser of two bounds takes over:
Renyi accounting (RDP), or the exact Gaussian of what a record takes part in, were that known. All
are upper bounds, for any noise and any rate. Central-limit figures are not, and are not offered.

Where a record takes part once in an epoch, what is composed are epochs, and one that has begun
counts whole. With shuffled batches it is one release without sampling: nothing is gained from the
secrecy of the permutation, for which no bound near that of Poisson sampling holds (Chua et al.,
"How Private are DP-SGD Implementations?", ICML 2024, give attacks above it). With random allocation
RDP is used, or the same release without sampling where that is less; see
`fedsieve.privacy._allocation`.

Integer noise (discrete Gaussian, Skellam) goes by RDP at integer orders, where the formula of the
sampled Gaussian holds for it too; see `fedsieve.privacy._rdp`.

At client level one release is of everything that the client holds: its sampling rate is 1, and its
steps are the rounds in which that client took part, counted by the client itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache

from fedsieve.privacy._exact import gaussian_epsilon, gaussian_mu
from fedsieve.privacy._known import known_epsilon, never
from fedsieve.privacy._pld import FINE, LEAST_DELTA, pld_epsilon
from fedsieve.privacy._rdp import integer_epsilon, rdp_epsilon
from fedsieve.privacy.guarantee import (
    Event,
    Guarantee,
    Law,
    Relation,
    Sampling,
    Unit,
    check_events,
    check_target,
    in_full,
    merge,
)

GAUSSIAN = "exact Gaussian (Balle and Wang)"
PLD = "PLD (dp-accounting, pessimistic)"
RDP = "RDP (exact divergences)"
KNOWN = "known draws (Gaussian, Chernoff)"
RDP_INTEGER = "RDP at integer orders (sampled integer noise)"
RDP_ALLOCATION = "RDP at integer orders (random allocation, exact in both directions)"
NOTHING = "none needed: nothing was released"


def compose(
    events: Iterable[Event],
    delta: float,
    relation: Relation = "add-remove",
    unit: Unit = "record",
) -> Guarantee:
    """The guarantee of all events together, in any order, each chosen after seeing the others.

    Raises:
        ValueError: delta, relation or unit out of range, or a relation or unit that does not go
            with the way of sampling.
    """
    check_target(delta, relation, unit)
    merged, delta = merge(events), float(delta)  # of numpy's float32, digits would be lost
    check_events(merged, relation, unit)
    epsilon, accountant = epsilon_of(merged, delta, relation) if merged else (0.0, NOTHING)
    return Guarantee(epsilon, delta, unit, relation, accountant, merged)


def epsilon(
    noise_multiplier: float,
    sampling_rate: float,
    steps: int,
    delta: float,
    relation: Relation = "add-remove",
    unit: Unit = "record",
    law: Law = "gaussian",
    variance: float | None = None,
    sampling: Sampling = "poisson",
) -> Guarantee:
    """The guarantee of equal releases.

    Args:
        noise_multiplier: Noise standard deviation of the clipped sum over the clip, > 0.
        sampling_rate: Probability with which a record enters a step, in (0, 1].
        steps: Number of releases, >= 0; of epochs, where a record takes part once in one.
        delta: In (0, 1).
        relation: Neighbouring relation.
        unit: What is protected.
        law: Of the noise.
        variance: Of Skellam noise, in units of the integers.
        sampling: How records come to the steps.

    Example:
        >>> round(epsilon(1.0, 0.01, 1000, 1e-5).epsilon, 2)
        1.83
        >>> round(epsilon(1.0, 0.01, 10, 1e-5, "zero-out", sampling="shuffled").epsilon, 2)
        17.86
    """
    event = Event(noise_multiplier, sampling_rate, steps, law, variance, sampling)
    check_events([event], relation, unit)
    return compose([event], delta, relation, unit)


@lru_cache(maxsize=1024)
def epsilon_of(
    events: tuple[Event, ...], delta: float, relation: Relation, fineness: float = FINE
) -> tuple[float, str]:
    """Epsilon of merged events, at least one release, and the name of the accountant.

    Args:
        events: As `fedsieve.privacy.guarantee.merge` leaves them.
        delta: In (0, 1).
        relation: Neighbouring relation.
        fineness: Spacing of the loss grid over one step's standard deviation.
    """
    mu = gaussian_mu(events, relation)
    if mu is not None:
        return gaussian_epsilon(mu, delta), GAUSSIAN
    events = in_full(events)
    if any(e.sampling == "random-allocation" for e in events):
        return _allocated(events, delta, relation)
    if never(events, delta):
        return 0.0, KNOWN
    if any(e.law != "gaussian" for e in events):
        return integer_epsilon(events, delta, relation), RDP_INTEGER
    if (known := known_epsilon(events, delta, relation)) == 0:
        return 0.0, KNOWN
    if delta >= LEAST_DELTA:
        found = pld_epsilon(events, delta, relation, fineness)
        if math.isfinite(found):
            return found, PLD
    amplified = rdp_epsilon(events, delta, relation)
    return (amplified, RDP) if amplified < known else (known, KNOWN)


def _allocated(events: tuple[Event, ...], delta: float, relation: Relation) -> tuple[float, str]:
    """With amplification, or as if every step was known to be the record's: what is less."""
    amplified = integer_epsilon(events, delta, relation)
    known = gaussian_mu(
        tuple(replace(e, sampling_rate=1.0, sampling="poisson") for e in events), relation
    )
    if known is not None and (plain := gaussian_epsilon(known, delta)) <= amplified:
        return plain, GAUSSIAN
    return amplified, RDP_ALLOCATION
