"""What each setting does to epsilon, one turned at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import get_args

from fedsieve.privacy.accounting import epsilon
from fedsieve.privacy.guarantee import Guarantee, Law, Relation, Sampling, Unit


@dataclass(frozen=True)
class Setting:
    """Equal releases under a statement.

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
    """

    noise_multiplier: float
    sampling_rate: float
    steps: int
    delta: float
    relation: Relation = "add-remove"
    unit: Unit = "record"
    law: Law = "gaussian"
    variance: float | None = None
    sampling: Sampling = "poisson"

    def guarantee(self) -> Guarantee:
        """What they cost together.

        Raises:
            ValueError: A setting out of range.
        """
        return epsilon(
            self.noise_multiplier,
            self.sampling_rate,
            self.steps,
            self.delta,
            self.relation,
            self.unit,
            self.law,
            self.variance,
            self.sampling,
        )


@dataclass(frozen=True)
class Turn:
    """One knob in another position, and what then holds.

    Args:
        knob: What is turned, in words.
        value: Where it then stands.
        guarantee: What holds there, all else as it was.
    """

    knob: str
    value: float | int | str
    guarantee: Guarantee


def knobs(setting: Setting) -> list[Turn]:
    """Each knob turned both ways while the others stay.

    Noise, sampling rate and steps are halved and doubled (a rate of more than 1/2 goes to 1; at
    client level it stays 1), delta goes down and up by ten, and every other relation that goes with
    the sampling is tried.

    Args:
        setting: Where the knobs stand.

    Raises:
        ValueError: A setting out of range.

    Example:
        >>> turned = knobs(Setting(10.0, 1.0, 100, 1e-5))
        >>> [(t.value, round(t.guarantee.epsilon, 2)) for t in turned if t.knob == "steps"]
        [(50, 2.94), (200, 6.57)]
    """
    s = setting
    seldom, often = _rates(s)
    turned: list[tuple[str, Setting]] = [
        ("noise multiplier", replace(s, noise_multiplier=s.noise_multiplier / 2)),
        ("noise multiplier", replace(s, noise_multiplier=s.noise_multiplier * 2)),
        ("sampling rate", replace(s, sampling_rate=seldom)),
        ("sampling rate", replace(s, sampling_rate=often)),
        ("steps", replace(s, steps=s.steps // 2)),
        ("steps", replace(s, steps=s.steps * 2)),
        ("delta", replace(s, delta=s.delta / 10)),
        ("delta", replace(s, delta=min(s.delta * 10, (1 + s.delta) / 2))),
        *(
            ("relation", replace(s, relation=relation))
            for relation in get_args(Relation)
            if (s.sampling, relation) != ("shuffled", "add-remove")
        ),
    ]
    return [
        Turn(knob, getattr(one, knob.replace(" ", "_")), one.guarantee())
        for knob, one in turned
        if one != s
    ]


def _rates(s: Setting) -> tuple[float, float]:
    """Half and twice the sampling rate; an epoch keeps a whole number of steps."""
    if s.unit == "client":
        return s.sampling_rate, s.sampling_rate
    if s.sampling == "poisson":
        return s.sampling_rate / 2, min(s.sampling_rate * 2, 1.0)
    steps = round(1 / s.sampling_rate)
    return 1 / (2 * steps), 1 / max(steps // 2, 1)
