"""``fedsieve privacy``: what noise costs, and what a budget buys."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from fedsieve.cli._text import help_without_command, say

if TYPE_CHECKING:
    from fedsieve.privacy.guarantee import Guarantee
    from fedsieve.privacy.guarantee import Relation as Neighbours

app = typer.Typer(
    help="Convert between noise and epsilon.",
    rich_markup_mode=None,
    invoke_without_command=True,
    callback=help_without_command,
)

Rate = Annotated[
    float, typer.Option(help="Probability with which a record enters a step, in (0, 1].")
]
Steps = Annotated[int, typer.Option(help="Number of noisy releases.")]
Delta = Annotated[float, typer.Option(help="Delta of the statement, in (0, 1).")]
Relation = Annotated[
    str, typer.Option(help="Neighbouring relation: add-remove, replace-one or zero-out.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def epsilon(
    noise_multiplier: Annotated[
        float, typer.Option(help="Noise standard deviation over the clip, > 0.")
    ],
    sampling_rate: Rate,
    steps: Steps,
    delta: Delta,
    relation: Relation = "add-remove",
    as_json: Json = False,
) -> None:
    """Epsilon of a Poisson-sampled Gaussian mechanism, composed over the steps."""
    from fedsieve.experiments.toml import refusing
    from fedsieve.privacy import accounting

    with refusing():
        spent = accounting.epsilon(
            noise_multiplier, sampling_rate, steps, delta, cast("Neighbours", relation)
        )
    _tell(spent, noise_multiplier, as_json)


@app.command()
def noise(
    epsilon: Annotated[float, typer.Option(help="Target, > 0.")],
    sampling_rate: Rate,
    steps: Steps,
    delta: Delta,
    relation: Relation = "add-remove",
    as_json: Json = False,
) -> None:
    """Smallest noise multiplier that keeps within epsilon."""
    from fedsieve.experiments.toml import refusing
    from fedsieve.privacy import accounting

    with refusing():
        neighbours = cast("Neighbours", relation)
        multiplier = accounting.noise_multiplier(epsilon, sampling_rate, steps, delta, neighbours)
        spent = accounting.epsilon(multiplier, sampling_rate, steps, delta, neighbours)
    _tell(spent, multiplier, as_json)


def _tell(spent: Guarantee, multiplier: float, as_json: bool) -> None:
    if not as_json:
        say(f"noise multiplier {multiplier:.6g}: {spent.sentence()}")
        return
    told: dict[str, Any] = {
        "epsilon": spent.epsilon if math.isfinite(spent.epsilon) else None,
        "noise_multiplier": multiplier,
        "relation": spent.relation,
        "accountant": spent.accountant,
        "delta": spent.delta,
        "unit": spent.unit,
        "sampling": spent.sampling,
        "statement": spent.sentence(),
    }
    say(json.dumps(told))
