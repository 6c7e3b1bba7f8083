"""What a client never does, whatever a server asks for."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import get_args

from fedsieve.privacy._budget import Budget
from fedsieve.privacy.guarantee import (
    LEAST_VARIANCE,
    Event,
    Law,
    Relation,
    Sampling,
    Unit,
    as_float,
    check_events,
    check_number,
    epochs,
)


class RefusedError(RuntimeError):
    """The client does not do what it was asked to; nothing was recorded or released."""


@dataclass(frozen=True)
class Terms:
    """On which terms a server asks for the message of a round.

    Where records take part once in an epoch, **every message begins epochs of its own**, with a
    fresh secret draw, and pays for each of them whole, the last one even if the message stops in
    the middle of it. An epoch that went on in the next message would need the same draw there: a
    key that outlives the client's process, and an account of which step was answered in which run.
    What is asked for here is composed from the messages alone, in whatever order, by whichever
    process; local epochs, t steps a message, lose nothing by it.

    Args:
        noise_multiplier: Noise standard deviation of the clipped sum over the clip, > 0; of integer
            noise over the lattice's bound.
        sampling_rate: Probability with which a record enters a step, in (0, 1]; 1/t where it takes
            part once in an epoch of t steps.
        clip: Norm that no summed vector exceeds, after projection, > 0.
        steps: Noisy sums that the message is computed from, >= 1.
        law: Of the noise.
        variance: Of Skellam noise, and only of it, in units of the integers, > 0: what it costs
            depends on it. Whatever a server names, no more is counted on than mechanisms keep to.
        sampling: How records come to the steps.

    Raises:
        ValueError: A value outside these ranges, Skellam noise of unknown variance, or a law that
            is not accounted for with this sampling.

    Example:
        >>> Terms(1.0, 1 / 20, clip=1.0, steps=50, sampling="shuffled").event.steps  # epochs
        3
    """

    noise_multiplier: float
    sampling_rate: float
    clip: float
    steps: int = 1
    law: Law = "gaussian"
    variance: float | None = None
    sampling: Sampling = "poisson"

    def __post_init__(self) -> None:
        for name in ("noise_multiplier", "sampling_rate", "clip"):
            object.__setattr__(self, name, as_float(getattr(self, name), name))
        check_number(self.steps, "steps")
        _ = self.event
        if self.variance is not None:
            least = float(LEAST_VARIANCE)
            object.__setattr__(self, "variance", min(as_float(self.variance, "variance"), least))
        if self.steps != int(self.steps) or self.steps < 1:
            raise ValueError(f"steps={self.steps} must be >= 1: a message releases something")
        if not (math.isfinite(self.clip) and self.clip > 0):
            raise ValueError(f"clip={self.clip} must be finite and > 0")

    @property
    def event(self) -> Event:
        """What such a message releases: its steps, or the epochs that it begins."""
        return released(
            self.noise_multiplier, self.sampling_rate, self.steps,
            self.law, self.variance, self.sampling,
        )  # fmt: skip


def released(
    noise_multiplier: float,
    sampling_rate: float,
    steps: int,
    law: Law,
    variance: float | None,
    sampling: Sampling,
) -> Event:
    """What a message of so many noisy sums releases; see `Terms`."""
    one = Event(noise_multiplier, sampling_rate, 1, law, variance, sampling)
    begun = steps if sampling == "poisson" else epochs(steps, one.batches)
    return replace(one, steps=begun)


@dataclass(frozen=True)
class Limits:
    """The client's own bounds: a budget for the data set, and terms that it never goes below.

    Sampling may be weaker and noise stronger than asked, never the other way round. The clip is
    bounded because it is the scale on which the noise hides a record; that it is applied after the
    projection makes a bound on the projection's norm unnecessary.

    Args:
        epsilon: Budget of the data set over all runs, > 0.
        delta: In (0, 1).
        noise_multiplier: The least that is accepted, > 0.
        sampling_rate: The largest that is accepted, in (0, 1].
        clip: The largest that is accepted, > 0.
        relation: Neighbouring relation of the budget.
        unit: What the budget protects.
        steps: The most noisy sums that one message may be computed from, >= 1.
        rounds: The most rounds that are answered, all runs together, >= 1; ``None``: as many as the
            budget allows.
        laws: The noise that is accepted; a client that trusts no floating point leaves out
            "gaussian".
        samplings: How records may come to the steps. Whoever accepts epochs has to draw them as
            `Terms` says.

    Raises:
        ValueError: A value out of range, or a way of sampling about which the relation says
            nothing.

    Example:
        >>> limits = Limits(4.0, 1e-5, noise_multiplier=1.0, sampling_rate=0.02, clip=1.0)
        >>> limits.refuse(Terms(noise_multiplier=0.5, sampling_rate=0.01, clip=1.0))
        Traceback (most recent call last):
        fedsieve.privacy.limits.RefusedError: noise_multiplier=0.5 is asked for; the least is 1.0
    """

    epsilon: float
    delta: float
    noise_multiplier: float
    sampling_rate: float
    clip: float
    relation: Relation = "add-remove"
    unit: Unit = "record"
    steps: int = 1
    rounds: int | None = None
    laws: tuple[Law, ...] = ("gaussian",)
    samplings: tuple[Sampling, ...] = ("poisson",)

    def __post_init__(self) -> None:
        _ = self.budget
        Terms(self.noise_multiplier, self.sampling_rate, self.clip, self.steps)
        if self.rounds is not None:
            check_number(self.rounds, "rounds")
        if self.rounds is not None and (self.rounds != int(self.rounds) or self.rounds < 1):
            raise ValueError(f"rounds={self.rounds} must be an integer >= 1, or None")
        if not self.laws or not set(self.laws) <= set(get_args(Law)):
            raise ValueError(f"laws={self.laws} must be some of {', '.join(get_args(Law))}")
        known = get_args(Sampling)
        if not self.samplings or not set(self.samplings) <= set(known):
            raise ValueError(f"samplings={self.samplings} must be some of {', '.join(known)}")
        check_events((Event(1.0, 1.0, 1, sampling=one) for one in self.samplings), self.relation)

    @property
    def budget(self) -> Budget:
        """Epsilon and what it depends on."""
        return Budget(self.epsilon, self.delta, self.relation, self.unit)

    def refuse(self, terms: Terms) -> None:
        """Refuse terms beyond the client's own.

        Raises:
            RefusedError: Naming every one of them, and what is allowed.
        """
        beyond = [
            f"{name}={asked} is asked for; the {word} is {own}"
            for name, word, sign in (
                ("noise_multiplier", "least", 1),
                ("sampling_rate", "largest", -1),
                ("clip", "largest", -1),
                ("steps", "most", -1),
            )
            if sign * (asked := getattr(terms, name)) < sign * (own := getattr(self, name))
        ]
        for name, kind, accepted in (
            ("law", terms.law, self.laws),
            ("sampling", terms.sampling, self.samplings),
        ):
            if kind not in accepted:
                beyond.append(f"{name}={kind!r} is asked for; accepted is {', '.join(accepted)}")
        if self.unit == "client" and terms.sampling_rate != 1:
            beyond.append(
                f"sampling_rate={terms.sampling_rate} is asked for; accepted is 1 at client level: "
                "whether a client takes part is no secret, so nothing is gained from it"
            )
        if beyond:
            raise RefusedError("; ".join(beyond))

    def refuse_round(self, answered: int) -> None:
        """Refuse one more round after so many.

        Raises:
            RefusedError: No more are answered.
        """
        if self.rounds is not None and answered >= self.rounds:
            raise RefusedError(
                f"{answered} rounds were answered; rounds={self.rounds} is the most, in all runs"
            )
