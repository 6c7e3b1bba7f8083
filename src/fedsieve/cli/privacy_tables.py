"""``fedsieve privacy table`` and ``published``: many epsilons at once."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from fedsieve.cli._epsilon import Json, NoiseLaw, Unit, Variance, Way, facts, law_of
from fedsieve.cli._text import pairs, say, width

if TYPE_CHECKING:
    from fedsieve.privacy.guarantee import Guarantee, Sampling
    from fedsieve.privacy.guarantee import Relation as Neighbours
    from fedsieve.privacy.guarantee import Unit as Protected

_AGAIN = "; may be repeated."

_SAMPLED = {
    "poisson": "Poisson samples, the draws unknown to the observer",
    "shuffled": "shuffled batches, no amplification counted, epochs counted whole",
    "random-allocation": "random allocation, the draws unknown to the observer, epochs counted "
    "whole",
}


def table(
    epsilon: Annotated[list[float] | None, typer.Option(help=f"Target, > 0{_AGAIN}")] = None,
    noise_multiplier: Annotated[
        list[float] | None, typer.Option(help=f"Noise standard deviation over the clip{_AGAIN}")
    ] = None,
    sampling_rate: Annotated[
        list[float] | None, typer.Option(help=f"Probability of a record, in (0, 1]{_AGAIN}")
    ] = None,
    steps: Annotated[
        list[int] | None, typer.Option(help=f"Number of noisy releases{_AGAIN}")
    ] = None,
    delta: Annotated[list[float] | None, typer.Option(help="In (0, 1); default: 1e-5.")] = None,
    relation: Annotated[
        list[str] | None, typer.Option(help="Neighbouring relation; default: add-remove.")
    ] = None,
    noise: NoiseLaw = "gaussian",
    variance: Variance = None,
    unit: Unit = "record",
    sampling: Way = "poisson",
    as_json: Json = False,
) -> None:
    """Three of epsilon, noise, rate and steps give the fourth, for every combination.

    Leave out exactly one of the four: it is what the table finds.
    """
    from fedsieve.experiments.toml import refusing
    from fedsieve.privacy._digits import rounded_up
    from fedsieve.privacy.tables import table as rows_of

    neighbours = cast("list[Neighbours]", relation or ["add-remove"])
    law, units = law_of(noise, variance)
    with refusing():
        rows = list(
            rows_of(
                noise_multiplier=noise_multiplier or None,
                sampling_rate=sampling_rate or None,
                steps=steps or None,
                epsilon=epsilon or None,
                delta=delta or [1e-5],
                relation=neighbours,
                unit=cast("Protected", unit),
                law=law,
                variance=units,
                sampling=cast("Sampling", sampling),
            )
        )
    if as_json:
        found = [
            {"sampling_rate": r.sampling_rate, "steps": r.steps}
            | facts(r.guarantee, r.noise_multiplier)
            for r in rows
        ]
        say(json.dumps(found, indent=2))
        return
    say(f"{'noise':>10} {'rate':>10} {'steps':>10} {'epsilon':>10}  delta, relation, accountant")
    for row in rows:
        g: Guarantee = row.guarantee
        told = f"{g.delta:g}, {g.relation}, {g.accountant}"
        say(
            f"{row.noise_multiplier:>10.5g} {row.sampling_rate:>10.5g} {row.steps:>10} "
            f"{rounded_up(g.epsilon):>10}  {told}"
        )
    say(f"unit: {unit}; {_SAMPLED[sampling]}; {noise} noise")


def published(as_json: Json = False) -> None:
    """Published epsilons beside ours, and why they differ."""
    from fedsieve.privacy.publications import published as known

    rows = list(known())
    if as_json:
        entries: list[dict[str, Any]] = [
            {
                "name": r.name, "source": r.source, "printed": r.printed, "method": r.method,
                "recomputed": r.theirs, "ours": facts(r.ours), "gap": r.gap,
            }
            for r in rows
        ]  # fmt: skip
        say(json.dumps(entries, indent=2))
        return
    for row in rows:
        say(textwrap.fill(f"{row.source}: {row.name}", width()))
        told = [
            ("printed", row.quoted),
            ("recomputed", f"epsilon = {row.theirs:.4g} by the {row.method}"),
            ("ours", row.ours.sentence()),
            ("because", row.gap),
        ]
        say(pairs(told, indent=2) + "\n")
