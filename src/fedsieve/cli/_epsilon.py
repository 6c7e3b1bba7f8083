"""What the privacy commands share: their options, and an epsilon with all that belongs to it."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from fedsieve.cli._text import say

if TYPE_CHECKING:
    from fedsieve.privacy.guarantee import Guarantee, Law

Target = Annotated[float, typer.Option("--epsilon", help="Target, > 0.")]
Rate = Annotated[
    float, typer.Option(help="Probability with which a record enters a step, in (0, 1].")
]
Steps = Annotated[int, typer.Option(help="Number of noisy releases.")]
Delta = Annotated[float, typer.Option(help="Delta of the statement, in (0, 1).")]
Relation = Annotated[
    str, typer.Option(help="Neighbouring relation: add-remove, replace-one or zero-out.")
]
Unit = Annotated[str, typer.Option(help="What is protected: record or client.")]
LocalSteps = Annotated[int, typer.Option(help="Noisy releases per round, >= 1.")]
Multiplier = Annotated[float, typer.Option(help="Noise standard deviation over the clip, > 0.")]
NoiseLaw = Annotated[
    str, typer.Option("--noise", help="Its law: gaussian, discrete-gaussian or skellam.")
]
Variance = Annotated[
    float | None,
    typer.Option(
        help="Of Skellam noise, in units of its integers, > 0; default: 2^22, the least of a run."
    ),
]
Way = Annotated[
    str,
    typer.Option(
        "--sampling",
        help="poisson; or shuffled or random-allocation: once in an epoch of 1 / rate steps.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def law_of(noise: str, variance: float | None) -> tuple[Law, float | None]:
    """The law, with the variance that a run keeps to where none is given."""
    from fedsieve.privacy.guarantee import kept_variance

    law = cast("Law", noise)
    return law, kept_variance(law) if variance is None else variance


def facts(spent: Guarantee, multiplier: float | None = None) -> dict[str, Any]:
    """An epsilon for machines, with all that it depends on."""
    return {
        "epsilon": finite(spent.epsilon),
        "noise_multiplier": finite(spent.noise_multiplier if multiplier is None else multiplier),
        "noise": spent.law,
        "relation": spent.relation,
        "accountant": spent.accountant,
        "delta": spent.delta,
        "unit": spent.unit,
        "sampling": spent.sampling,
        "statement": spent.sentence(),
    }


def finite(value: float) -> float | None:
    """A number that JSON can hold."""
    return value if math.isfinite(value) else None


def tell(spent: Guarantee, multiplier: float, as_json: bool) -> None:
    """Print an epsilon with all that belongs to it."""
    from decimal import ROUND_CEILING

    from fedsieve.privacy._digits import shown

    if as_json:
        say(json.dumps(facts(spent, multiplier)))
    else:
        say(f"noise multiplier {shown(multiplier, ROUND_CEILING)}: {spent.sentence()}")
