"""What was spent, and the words that go with the number.

An epsilon alone means nothing: it holds for a unit, under a neighbouring relation, at a delta, for
a way of sampling, as computed by an accountant. `Guarantee` keeps them together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING
from numbers import Real
from typing import Literal, get_args

from fedsieve.privacy._digits import rounded_up, shown

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

Sampling = Literal["poisson", "shuffled", "random-allocation"]
"""How records come to the steps: each joins each step independently; or once in an epoch of t
steps, either in batches of fixed size cut from a secret permutation, or each record in a step of
its own that is drawn uniformly and independently of all others."""

LAWS: dict[Law, str] = {
    "gaussian": "Gaussian",
    "discrete-gaussian": "discrete Gaussian",
    "skellam": "Skellam",
}

LEAST_VARIANCE = 2**22
"""Of the Skellam noise of a run, in units of its integers: 2^11 of them wide, where Skellam noise
costs no more than Gaussian noise to one part in a million (`fedsieve.privacy._rdp`)."""

MOST_RELEASES = 10**15

NEIGHBOURS: dict[Relation, str] = {
    "add-remove": "one {unit} added or removed",
    "replace-one": "one {unit} replaced by another",
    "zero-out": "one {unit} replaced by an empty one",
}


EPOCHS: dict[Sampling, str] = {
    "shuffled": "shuffled batches of fixed size, every {unit} at most once in each of {epochs} "
    "epochs of {steps} steps, no amplification counted",
    "random-allocation": "random allocation of every {unit} to one step in each of {epochs} epochs "
    "of {steps} steps, the draws unknown to the observer",
}


@dataclass(frozen=True)
class Event:
    """Repeated noisy releases of sums of clipped vectors, drawn by one way of sampling.

    Args:
        noise_multiplier: Noise standard deviation over the clip (of integers: over the bound of
            the lattice), > 0.
        sampling_rate: Probability with which a record enters a step, in (0, 1]. Where a record
            takes part once in an epoch, it is one over the number of steps of the epoch.
        steps: How many such releases, >= 0; or how many such epochs have begun, of as many
            releases as each has steps.
        law: Of the noise.
        variance: Of Skellam noise, and only of it, in units of the integers, > 0: what it costs
            beyond Gaussian noise of the same multiplier depends on it.
        sampling: How records come to the steps.

    Raises:
        ValueError: A value outside these ranges, Skellam noise of unknown variance, or integer
            noise under random allocation: the divergence in the direction of removal would hold for
            it, the other one is not known.

    Example:
        >>> Event(1.0, 1 / 20, 3, sampling="shuffled").batches
        20
    """

    noise_multiplier: float
    sampling_rate: float
    steps: int
    law: Law = "gaussian"
    variance: float | None = None
    sampling: Sampling = "poisson"

    def __post_init__(self) -> None:
        for name in ("noise_multiplier", "sampling_rate"):
            object.__setattr__(self, name, as_float(getattr(self, name), name))
        sigma, q = self.noise_multiplier, self.sampling_rate
        check_number(self.steps, "steps")
        if not (math.isfinite(sigma) and sigma > 0):
            raise ValueError(
                f"noise_multiplier={sigma} must be finite and > 0: no noise, no privacy"
            )
        if not 0 < q <= 1:
            raise ValueError(f"sampling_rate={q} must be in (0, 1]")
        if not (0 <= self.steps <= MOST_RELEASES and self.steps == int(self.steps)):
            raise ValueError(f"steps={self.steps} must be an integer >= 0, of at most 10^15")
        object.__setattr__(self, "steps", int(self.steps))
        if self.law not in get_args(Law):
            raise ValueError(f"law={self.law!r} is not one of {', '.join(get_args(Law))}")
        variance = self.variance
        if variance is not None:
            variance = as_float(variance, "variance")
            object.__setattr__(self, "variance", variance)
        if self.law != "skellam":
            if variance is not None:
                raise ValueError(f"variance={variance} belongs to law='skellam', not {self.law!r}")
        elif variance is None or not (math.isfinite(variance) and variance > 0):
            raise ValueError(
                f"variance={variance} must be finite and > 0: what Skellam noise costs depends on "
                f"its variance in units of the integers (a run keeps to {LEAST_VARIANCE} or more)"
            )
        if self.sampling not in get_args(Sampling):
            raise ValueError(
                f"sampling={self.sampling!r} is not one of {', '.join(get_args(Sampling))}"
            )
        if self.sampling != "poisson" and q * MOST_RELEASES < 1:
            raise ValueError(
                f"sampling_rate={q} with sampling={self.sampling!r}: an epoch has at most 10^15 "
                "steps; the nearest rate is 1e-15"
            )
        if self.sampling != "poisson" and abs(1 / q - self.batches) > 1e-9 / q:
            raise ValueError(
                f"sampling_rate={q} with sampling={self.sampling!r}: an epoch has a whole number "
                f"of steps; the nearest rate is 1/{self.batches} = {1 / self.batches:.6g}"
            )
        if self.sampling == "random-allocation" and self.law != "gaussian":
            raise ValueError(
                f"law={self.law!r} with sampling='random-allocation': its divergence is known for "
                "Gaussian noise only; allowed are sampling='poisson' and 'shuffled'"
            )

    @property
    def batches(self) -> int:
        """Steps of an epoch, where a record takes part once in one."""
        return round(1 / self.sampling_rate)

    @property
    def releases(self) -> int:
        """How many noisy sums, epochs counted whole."""
        return self.steps if self.sampling == "poisson" else self.steps * self.batches

    @property
    def sampled(self) -> bool:
        """Whether anything hides in which step a record takes part, as far as accounting goes."""
        return self.sampling != "shuffled" and self.sampling_rate < 1 - 1e-9


@dataclass(frozen=True)
class Guarantee:
    """An (epsilon, delta) statement with all that it depends on.

    Args:
        epsilon: From above, >= 0; infinite where nothing is known to hold.
        delta: In (0, 1).
        unit: What is protected.
        relation: Neighbouring relation.
        accountant: How epsilon was found.
        events: What was released, as `merge` leaves it.

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
        return sum(e.releases for e in self.events)

    @property
    def kinds(self) -> tuple[Sampling, ...]:
        """The ways of sampling that occur."""
        return tuple(
            kind for kind in get_args(Sampling) if kind in {e.sampling for e in self.events}
        )

    @property
    def sampling(self) -> str:
        """The sampling assumption in words."""
        return "; ".join(self._assumed(kind) for kind in self.kinds or ("poisson",))

    def _assumed(self, kind: Sampling) -> str:
        own = [e for e in self.events if e.sampling == kind]
        if kind != "poisson":
            begun = sum(e.steps for e in own)
            steps = ", ".join(str(t) for t in sorted({e.batches for e in own}))
            return EPOCHS[kind].format(unit=self.unit, epochs=begun, steps=steps)
        rates = sorted({e.sampling_rate for e in own})
        if (not rates or rates == [1.0]) and self.unit == "client":
            return "no sampling: every participation counts in full"
        if not rates or rates == [1.0]:
            return f"no sampling: every step may use every {self.unit}"
        listed = ", ".join(shown(q) for q in rates)
        return f"Poisson sampling with rate {listed}, the draws unknown to the observer"

    def sentence(self) -> str:
        """The statement in one sentence, epsilon and noise rounded up."""
        sigmas = sorted({e.noise_multiplier for e in self.events})
        noise = ", ".join(shown(sigma, ROUND_CEILING) for sigma in sigmas)
        variances = sorted({e.variance for e in self.events if e.variance is not None})
        if variances:
            noise += f" and variance {variances[0]:.6g} or more in units of the integers"
        return (
            f"epsilon = {rounded_up(self.epsilon)} at delta = {self.delta:g} "
            f"(unit: {self.unit}; neighbours: {NEIGHBOURS[self.relation].format(unit=self.unit)}; "
            f"{self.sampling}; {self.steps} {self.law} releases with noise multiplier "
            f"{noise or 'n/a'}; accountant: {self.accountant})"
        )


def sensitivity(relation: Relation) -> float:
    """How far a change of one unit moves the clipped sum, in units of the clip."""
    return 2.0 if relation == "replace-one" else 1.0


def merge(events: Iterable[Event]) -> tuple[Event, ...]:
    """The same releases, equal ones counted together, in a fixed order."""
    steps: dict[tuple[float, float, Law, float, Sampling], int] = {}
    for e in events:
        key = (e.noise_multiplier, e.sampling_rate, e.law, e.variance or 0.0, e.sampling)
        steps[key] = steps.get(key, 0) + e.steps
    return tuple(
        Event(s, q, t, law, v or None, kind)
        for (s, q, law, v, kind), t in sorted(steps.items())
        if t
    )


def kept_variance(law: Law) -> float | None:
    """The variance that the mechanisms of a run keep to at least, for events of this law."""
    return float(LEAST_VARIANCE) if law == "skellam" else None


def in_full(events: Iterable[Event]) -> tuple[Event, ...]:
    """The events as accountants compose them: an epoch that hides no step is one release in full.

    Let the batches of an epoch be known, in both worlds the same. Then all its messages but one are
    made from the same records by the same law, given the messages before, and that one message is a
    Gaussian release without sampling. What is true given any batches is true of their mixture, as
    divergences are convex.
    """
    return merge(
        e if e.sampled else replace(e, sampling_rate=1.0, sampling="poisson") for e in events
    )


def epochs(releases: int, batches: int) -> int:
    """Epochs of so many steps that have begun after so many releases.

    Args:
        releases: Their number, >= 0.
        batches: Steps of one epoch, >= 1.

    Raises:
        ValueError: A negative number of releases.

    Example:
        >>> epochs(0, 20), epochs(1, 20), epochs(20, 20), epochs(21, 20)
        (0, 1, 1, 2)
    """
    if not releases >= 0:
        raise ValueError(f"steps={releases} must be an integer >= 0")
    return -(-releases // batches)


def composed_steps(releases: int, sampling_rate: float, sampling: Sampling) -> int:
    """What is composed of so many releases: themselves, or the epochs that they begin.

    Example:
        >>> composed_steps(21, 1 / 20, "poisson"), composed_steps(21, 1 / 20, "shuffled")
        (21, 2)
    """
    if sampling == "poisson" or not 1 / MOST_RELEASES <= sampling_rate <= 1:
        return releases  # a rate that an event refuses
    return epochs(releases, round(1 / sampling_rate))


def check_events(events: Iterable[Event], relation: Relation, unit: Unit = "record") -> None:
    """Refuse releases about which a neighbouring relation or a unit says nothing.

    Raises:
        ValueError: Sampling of clients: whoever runs the rounds knows who takes part. Or shuffled
            batches under add-remove: their sizes are fixed, so a record more or less moves others
            from batch to batch, and may change how many batches there are.
    """
    events = tuple(events)
    for e in events:
        if unit == "client" and e.sampling_rate != 1:
            raise ValueError(
                f"sampling_rate={e.sampling_rate} with unit='client': whether a client takes part "
                "is no secret, so nothing is gained from it; allowed is 1"
            )
    if relation == "add-remove" and any(e.sampling == "shuffled" for e in events):
        raise ValueError(
            "relation='add-remove' with sampling='shuffled': batches have a fixed size, so one "
            "record more or less moves others from batch to batch and may change their number; "
            "allowed are relation='zero-out' (its place stays, and contributes zero) and "
            "'replace-one'"
        )


def check_target(delta: float, relation: str, unit: str = "record") -> None:
    """Refuse a delta, relation or unit for which there is no statement.

    Raises:
        ValueError: With the name, the value and what is allowed.
    """
    check_number(delta, "delta")
    if not 0 < delta < 1:
        raise ValueError(f"delta={delta} must be in (0, 1)")
    for name, value, allowed in (
        ("relation", relation, get_args(Relation)),
        ("unit", unit, get_args(Unit)),
    ):
        if value not in allowed:
            raise ValueError(f"{name}={value!r} is not one of {', '.join(allowed)}")


def check_number(value: object, name: str) -> None:
    """Refuse what is no real number, before anything is computed with it.

    Raises:
        ValueError: With name and value.
    """
    if not isinstance(value, Real):
        raise ValueError(f"{name}={value!r} must be a number")


def as_float(value: object, name: str) -> float:
    """A real number as Python's float: with a float32 of numpy's, accountants would round to it.

    Raises:
        ValueError: It is no real number.
    """
    check_number(value, name)
    return float(value)  # type: ignore[arg-type]


def check_epsilon(epsilon: float, name: str = "epsilon") -> None:
    """Refuse a target that nothing can meet.

    Raises:
        ValueError: It is not finite and > 0.
    """
    check_number(epsilon, name)
    if not (math.isfinite(epsilon) and epsilon > 0):
        raise ValueError(f"{name}={epsilon} must be finite and > 0")
