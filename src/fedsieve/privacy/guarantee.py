"""What was spent, and the words that go with the number.

An epsilon alone means nothing: it holds for a unit, under a neighbouring relation, at a delta, for
a way of sampling, as computed by an accountant. `Guarantee` keeps them together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

Relation = Literal["add-remove", "replace-one", "zero-out"]
"""When two data sets are neighbours: one unit more or less, one unit changed into another, or one
unit changed into a record that contributes zero (numerically equal to add-remove)."""

Unit = Literal["record", "client"]
"""What one neighbour step changes: one record of one client, or everything a client holds."""

Trust = Literal["local", "distributed", "central"]
"""Who has to be trusted with more than noisy messages: nobody, all but a few of the other clients
(who share the noise that cancels), or the server (which adds it)."""

Law = Literal["gaussian", "discrete-gaussian", "skellam"]
"""Of the noise: real numbers, or integers on a lattice (`fedsieve.privacy.discrete`)."""

LAWS: dict[Law, str] = {
    "gaussian": "Gaussian",
    "discrete-gaussian": "discrete Gaussian",
    "skellam": "Skellam",
}

NEIGHBOURS: dict[Relation, str] = {
    "add-remove": "one {unit} added or removed",
    "replace-one": "one {unit} replaced by another",
    "zero-out": "one {unit} replaced by an empty one",
}


@dataclass(frozen=True)
class Event:
    """Repeated noisy releases of Poisson-sampled clipped sums.

    Args:
        noise_multiplier: Noise standard deviation over the clip (of integers: over the bound of
            the lattice), > 0.
        sampling_rate: Probability with which a record enters a step, in (0, 1].
        steps: How many such releases, >= 0.
        law: Of the noise.

    Raises:
        ValueError: A value outside these ranges.
    """

    noise_multiplier: float
    sampling_rate: float
    steps: int
    law: Law = "gaussian"

    def __post_init__(self) -> None:
        sigma, q = self.noise_multiplier, self.sampling_rate
        if not (math.isfinite(sigma) and sigma > 0):
            raise ValueError(
                f"noise_multiplier={sigma} must be finite and > 0: no noise, no privacy"
            )
        if not 0 < q <= 1:
            raise ValueError(f"sampling_rate={q} must be in (0, 1]")
        if self.steps != int(self.steps) or self.steps < 0:
            raise ValueError(f"steps={self.steps} must be an integer >= 0")
        if self.law not in get_args(Law):
            raise ValueError(f"law={self.law!r} is not one of {', '.join(get_args(Law))}")


@dataclass(frozen=True)
class Guarantee:
    """An (epsilon, delta) statement with all that it depends on.

    Example:
        >>> spent = Guarantee(1.25, 1e-5, "record", "add-remove", "PLD", (Event(1.0, 0.01, 300),))
        >>> spent.steps, spent.sampling
        (300, 'Poisson sampling with rate 0.01, the draws unknown to the observer')
    """

    epsilon: float
    delta: float
    unit: Unit
    relation: Relation
    accountant: str
    events: tuple[Event, ...]

    @property
    def noise_multiplier(self) -> float:
        """Smallest noise multiplier of any release; infinite if nothing was released."""
        return min((e.noise_multiplier for e in self.events), default=math.inf)

    @property
    def sampling_rate(self) -> float:
        """Largest sampling rate of any release; 0 if nothing was released."""
        return max((e.sampling_rate for e in self.events), default=0.0)

    @property
    def law(self) -> str:
        """The law of the noise in words."""
        return (
            " and ".join(LAWS[law] for law in sorted({e.law for e in self.events}))
            or LAWS["gaussian"]
        )

    @property
    def steps(self) -> int:
        """Number of releases."""
        return sum(e.steps for e in self.events)

    @property
    def sampling(self) -> str:
        """The sampling assumption in words."""
        rates = sorted({e.sampling_rate for e in self.events})
        if (not rates or rates == [1.0]) and self.unit == "client":
            return "no sampling: every participation counts in full"
        if not rates or rates == [1.0]:
            return f"no sampling: every step may use every {self.unit}"
        listed = ", ".join(f"{q:.6g}" for q in rates)
        return f"Poisson sampling with rate {listed}, the draws unknown to the observer"

    def sentence(self) -> str:
        """The statement in one sentence, the epsilon rounded up."""
        noise = ", ".join(f"{s:.6g}" for s in sorted({e.noise_multiplier for e in self.events}))
        return (
            f"epsilon = {_round_up(self.epsilon)} at delta = {self.delta:g} "
            f"(unit: {self.unit}; neighbours: {NEIGHBOURS[self.relation].format(unit=self.unit)}; "
            f"{self.sampling}; {self.steps} {self.law} releases with noise multiplier "
            f"{noise or 'n/a'}; accountant: {self.accountant})"
        )


def sensitivity(relation: Relation) -> float:
    """How far a change of one unit moves the clipped sum, in units of the clip."""
    return 2.0 if relation == "replace-one" else 1.0


def merge(events: Iterable[Event]) -> tuple[Event, ...]:
    """The same releases, equal ones counted together, in a fixed order."""
    steps: dict[tuple[float, float, Law], int] = {}
    for e in events:
        key = (e.noise_multiplier, e.sampling_rate, e.law)
        steps[key] = steps.get(key, 0) + e.steps
    return tuple(Event(s, q, t, law) for (s, q, law), t in sorted(steps.items()) if t)


def check_target(delta: float, relation: str, unit: str = "record") -> None:
    """Refuse a delta, relation or unit for which there is no statement.

    Raises:
        ValueError: With the name, the value and what is allowed.
    """
    if not 0 < delta < 1:
        raise ValueError(f"delta={delta} must be in (0, 1)")
    for name, value, allowed in (
        ("relation", relation, get_args(Relation)),
        ("unit", unit, get_args(Unit)),
    ):
        if value not in allowed:
            raise ValueError(f"{name}={value!r} is not one of {', '.join(allowed)}")


def check_epsilon(epsilon: float, name: str = "epsilon") -> None:
    """Refuse a target that nothing can meet.

    Raises:
        ValueError: It is not finite and > 0.
    """
    if not (math.isfinite(epsilon) and epsilon > 0):
        raise ValueError(f"{name}={epsilon} must be finite and > 0")


def _round_up(epsilon: float) -> str:
    return f"{math.ceil(epsilon * 1e4) / 1e4:.4f}" if math.isfinite(epsilon) else "infinite"
