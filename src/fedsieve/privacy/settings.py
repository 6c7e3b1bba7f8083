"""What each setting does to epsilon, one turned at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import get_args

from fedsieve.privacy.accounting import epsilon
from fedsieve.privacy.guarantee import Guarantee, Law, Relation, Unit


@dataclass(frozen=True)
class Setting:
    """Equal releases under a statement.

    Args:
        noise_multiplier: Noise standard deviation of the clipped sum over the clip, > 0.
        sampling_rate: Probability with which a record enters a step, in (0, 1].
        steps: Number of releases, >= 0.
        delta: In (0, 1).
        relation: Neighbouring relation.
        unit: What is protected.
        law: Of the noise.
        variance: Of Skellam noise, in units of the integers.
    """

    noise_multiplier: float
    sampling_rate: float
    steps: int
    delta: float
    relation: Relation = "add-remove"
    unit: Unit = "record"
    law: Law = "gaussian"
    variance: float | None = None

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
        )


@dataclass(frozen=True)
class Turn:
    """One knob in another position, and what then holds."""

    knob: str
    value: float | int | str
    guarantee: Guarantee


def knobs(setting: Setting) -> list[Turn]:
    """Each knob turned both ways while the others stay.

    Noise, sampling rate and steps are halved and doubled (a rate of more than 1/2 goes to 1), delta
    goes down and up by ten, and every other relation is tried.

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
    turned: list[tuple[str, Setting]] = [
        ("noise multiplier", replace(s, noise_multiplier=s.noise_multiplier / 2)),
        ("noise multiplier", replace(s, noise_multiplier=s.noise_multiplier * 2)),
        ("sampling rate", replace(s, sampling_rate=s.sampling_rate / 2)),
        ("sampling rate", replace(s, sampling_rate=min(s.sampling_rate * 2, 1.0))),
        ("steps", replace(s, steps=s.steps // 2)),
        ("steps", replace(s, steps=s.steps * 2)),
        ("delta", replace(s, delta=s.delta / 10)),
        ("delta", replace(s, delta=min(s.delta * 10, (1 + s.delta) / 2))),
        *(("relation", replace(s, relation=relation)) for relation in get_args(Relation)),
    ]
    return [
        Turn(knob, getattr(one, knob.replace(" ", "_")), one.guarantee())
        for knob, one in turned
        if one != s
    ]
