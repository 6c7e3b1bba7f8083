"""A table over a grid: three of noise multiplier, sampling rate, steps, epsilon give the fourth."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fedsieve.privacy.accounting import epsilon as _epsilon
from fedsieve.privacy.calibration import max_sampling_rate, max_steps
from fedsieve.privacy.calibration import noise_multiplier as _noise_multiplier
from fedsieve.privacy.guarantee import (
    Guarantee,
    Law,
    Relation,
    Sampling,
    Unit,
    composed_steps,
)


@dataclass(frozen=True)
class Row:
    """One setting and its guarantee.

    Args:
        noise_multiplier: Noise standard deviation of the clipped sum over the clip.
        sampling_rate: Probability with which a record enters a step.
        steps: Number of releases, whatever the sampling.
        guarantee: What they cost together; its epsilon is at most the target where one was given.
    """

    noise_multiplier: float
    sampling_rate: float
    steps: int
    guarantee: Guarantee


def table(
    *,
    noise_multiplier: Sequence[float] | None = None,
    sampling_rate: Sequence[float] | None = None,
    steps: Sequence[int] | None = None,
    epsilon: Sequence[float] | None = None,
    delta: Sequence[float] = (1e-5,),
    relation: Sequence[Relation] = ("add-remove",),
    unit: Unit = "record",
    law: Law = "gaussian",
    variance: float | None = None,
    sampling: Sampling = "poisson",
) -> Iterator[Row]:
    """Every combination of the given values, the last named varying fastest.

    Exactly one of the first four is left out, and found: the least noise, the largest rate, the
    most steps within epsilon, or epsilon itself.

    Args:
        noise_multiplier: Noise standard deviations of the clipped sum over the clip, > 0.
        sampling_rate: Probabilities with which a record enters a step, in (0, 1].
        steps: Numbers of releases, >= 0, whatever the sampling; epochs that they begin count whole.
        epsilon: Targets, > 0.
        delta: Deltas, in (0, 1).
        relation: Neighbouring relations.
        unit: What is protected.
        law: Of the noise.
        variance: Of Skellam noise, in units of the integers.
        sampling: How records come to the steps.

    Raises:
        ValueError: Not exactly one of the four is left out, or a value is out of range.

    Example:
        >>> rows = table(epsilon=[1.0, 8.0], sampling_rate=[1.0], steps=[100])
        >>> [round(row.noise_multiplier, 1) for row in rows]
        [37.3, 6.0]
    """
    four = {
        "noise_multiplier": noise_multiplier,
        "sampling_rate": sampling_rate,
        "steps": steps,
        "epsilon": epsilon,
    }
    missing = [name for name, values in four.items() if values is None]
    if len(missing) != 1:
        raise ValueError(
            f"{', '.join(missing) or 'nothing'} is left out; exactly one of {', '.join(four)} has "
            "to be: it is what the table finds"
        )
    axes = [values or (math.nan,) for values in four.values()]
    settings: Iterator[tuple[Any, ...]] = itertools.product(*axes, delta, relation)
    way = _Way(unit, law, variance, sampling)
    return (_row(missing[0], given, d, r, way) for *given, d, r in settings)


@dataclass(frozen=True)
class _Way:
    """What all rows share."""

    unit: Unit
    law: Law
    variance: float | None
    sampling: Sampling


def _row(missing: str, given: list[Any], delta: float, relation: Relation, way: _Way) -> Row:
    sigma, q, steps, target = given
    rest = delta, relation, way.law, way.variance, way.sampling
    if missing == "sampling_rate":
        q = max_sampling_rate(target, sigma, steps, *rest)
    composed = composed_steps(0 if missing == "steps" else steps, q, way.sampling)
    if missing == "noise_multiplier":
        sigma = _noise_multiplier(target, q, composed, *rest)
    elif missing == "steps":
        composed = max_steps(target, sigma, q, *rest)
        steps = composed if way.sampling == "poisson" else composed * round(1 / q)
    guarantee = _epsilon(
        sigma, q, composed, delta, relation, way.unit, way.law, way.variance, way.sampling
    )
    return Row(sigma, q, steps, guarantee)
