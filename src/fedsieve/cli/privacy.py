"""``fedsieve privacy``: what noise costs, and what a budget buys."""

from __future__ import annotations

import json
import math
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from fedsieve.cli._text import help_without_command, note, pairs, say, width

if TYPE_CHECKING:
    from fedsieve.privacy.guarantee import Guarantee, Sampling
    from fedsieve.privacy.guarantee import Relation as Neighbours
    from fedsieve.privacy.guarantee import Unit as Protected

app = typer.Typer(
    help="Convert between noise, rounds and epsilon; explain what a run released.",
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
Unit = Annotated[str, typer.Option(help="What is protected: record or client.")]
LocalSteps = Annotated[int, typer.Option(help="Noisy releases per round, >= 1.")]
Noise = Annotated[float, typer.Option(help="Noise standard deviation over the clip, > 0.")]
Way = Annotated[
    str,
    typer.Option(
        "--sampling",
        help="poisson; or shuffled or random-allocation: once in an epoch of 1 / rate steps.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def epsilon(
    noise_multiplier: Noise,
    sampling_rate: Rate,
    steps: Steps,
    delta: Delta,
    relation: Relation = "add-remove",
    unit: Unit = "record",
    sampling: Way = "poisson",
    as_json: Json = False,
) -> None:
    """Epsilon of a sampled Gaussian mechanism, composed over the steps."""
    from fedsieve.experiments.toml import refusing
    from fedsieve.privacy import accounting

    with refusing():
        spent = accounting.epsilon(
            noise_multiplier,
            sampling_rate,
            _composed(steps, sampling_rate, sampling),
            delta,
            cast("Neighbours", relation),
            cast("Protected", unit),
            sampling=cast("Sampling", sampling),
        )
    _tell(spent, noise_multiplier, as_json)


@app.command()
def noise(
    epsilon: Annotated[float, typer.Option(help="Target, > 0.")],
    sampling_rate: Rate,
    steps: Steps,
    delta: Delta,
    relation: Relation = "add-remove",
    unit: Unit = "record",
    sampling: Way = "poisson",
    as_json: Json = False,
) -> None:
    """Smallest noise multiplier that keeps within epsilon."""
    from fedsieve.experiments.toml import refusing
    from fedsieve.privacy import accounting
    from fedsieve.privacy.calibration import noise_multiplier

    with refusing():
        neighbours, way = cast("Neighbours", relation), cast("Sampling", sampling)
        steps = _composed(steps, sampling_rate, sampling)
        multiplier = noise_multiplier(
            epsilon, sampling_rate, steps, delta, neighbours, sampling=way
        )
        spent = accounting.epsilon(
            multiplier,
            sampling_rate,
            steps,
            delta,
            neighbours,
            cast("Protected", unit),
            sampling=way,
        )
    _tell(spent, multiplier, as_json)


@app.command()
def rounds(
    epsilon: Annotated[float, typer.Option(help="Target, > 0.")],
    noise_multiplier: Noise,
    sampling_rate: Rate,
    delta: Delta,
    local_steps: LocalSteps = 1,
    relation: Relation = "add-remove",
    unit: Unit = "record",
    as_json: Json = False,
) -> None:
    """Largest number of rounds that keeps within epsilon at this noise."""
    from fedsieve.experiments.toml import refusing
    from fedsieve.privacy import accounting
    from fedsieve.privacy.calibration import MOST_STEPS, max_steps

    with refusing():
        _check_local_steps(local_steps)
        neighbours = cast("Neighbours", relation)
        steps = max_steps(epsilon, noise_multiplier, sampling_rate, delta, neighbours)
        fit = steps // local_steps
        spent = accounting.epsilon(
            noise_multiplier,
            sampling_rate,
            fit * local_steps,
            delta,
            neighbours,
            cast("Protected", unit),
        )
    if as_json:
        say(json.dumps({"rounds": fit, **_facts(spent, noise_multiplier)}))
        return
    more = " or more" if steps == MOST_STEPS else ""
    say(f"{fit}{more} rounds of {local_steps} noisy releases fit: {spent.sentence()}")


@app.command()
def curve(
    noise_multiplier: Noise,
    sampling_rate: Rate,
    rounds: Annotated[int, typer.Option(help="Number of rounds, >= 1.")],
    delta: Delta,
    local_steps: LocalSteps = 1,
    relation: Relation = "add-remove",
    unit: Unit = "record",
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="PNG file to write.")
    ] = Path("epsilon.png"),
    as_json: Json = False,
) -> None:
    """Plot epsilon against rounds, and show what each setting does to it."""
    from fedsieve.experiments.toml import ConfigError, refusing
    from fedsieve.privacy.settings import Setting, knobs

    with refusing():
        _check_local_steps(local_steps)
        if rounds < 1:
            raise ConfigError(f"rounds={rounds} must be >= 1")
        setting = Setting(
            noise_multiplier,
            sampling_rate,
            rounds * local_steps,
            delta,
            cast("Neighbours", relation),
            cast("Protected", unit),
        )
        spent = setting.guarantee()
        turned = knobs(setting)
        at, curves = _curves(setting, rounds, local_steps)
    from fedsieve.experiments.epsilon_figure import save_curves

    title = f"{unit} level, {relation}, delta = {delta:g}; {spent.sampling}; {spent.accountant}"
    save_curves(out, at, curves, title)
    own = curves[next(iter(curves))]
    if as_json:
        table = [{"rounds": t, "epsilon": _finite(e)} for t, e in zip(at, own, strict=True)]
        turns = [{"knob": t.knob, "value": t.value, **_facts(t.guarantee)} for t in turned]
        told = {**_facts(spent, noise_multiplier), "curve": table, "knobs": turns, "png": str(out)}
        say(json.dumps(told))
        return
    say(f"after {rounds} rounds: {spent.sentence()}")
    say("\nepsilon after so many rounds, all else as above")
    say(pairs([(f"{t}", _digits(e)) for t, e in zip(at, own, strict=True)], indent=2))
    say("\nepsilon with one setting changed, all else as above")
    rows = [(f"{t.knob} {t.value:.6g}" if t.knob != "relation" else str(t.value), t.guarantee)
            for t in turned]  # fmt: skip
    say(pairs([(n, f"{_digits(g.epsilon)}  ({g.accountant})") for n, g in rows], indent=2))
    note(f"wrote {out}")


@app.command()
def explain(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of the run.")],
    as_json: Json = False,
) -> None:
    """List everything that a run released and what it cost; flag what was not paid for."""
    from fedsieve.experiments.released import NEVER_SENT, released
    from fedsieve.experiments.run_directory import RunDirectory

    found = released(RunDirectory.open(directory))
    if as_json:
        entries = [
            {"what": r.what, "sees": r.sees, "kind": r.kind, "cost": r.cost, "flagged": r.flagged}
            for r in found
        ]
        say(json.dumps({"released": entries, "never_sent": NEVER_SENT}, indent=2))
        return
    for one in found:
        mark = "! " if one.flagged else "  "
        say(textwrap.fill(one.what, width(), initial_indent=mark, subsequent_indent="  "))
        say(pairs([("seen by", one.sees), (one.kind, one.cost)], indent=4) + "\n")
    say(pairs([("!", "no epsilon covers it"), ("", NEVER_SENT)]))


def _curves(
    setting: Any, rounds: int, local_steps: int
) -> tuple[list[int], dict[str, list[float]]]:
    """Rounds, and for noise halved and doubled the epsilon after each."""
    from fedsieve.privacy.accounting import epsilon

    at = sorted({max(1, round(rounds * share / 16)) for share in range(1, 17)})
    curves = {}
    for factor in (1, 0.5, 2):
        sigma = setting.noise_multiplier * factor
        curves[f"noise multiplier {sigma:.4g}"] = [
            epsilon(
                sigma, setting.sampling_rate, t * local_steps, setting.delta, setting.relation
            ).epsilon
            for t in at
        ]
    return at, curves


def _composed(steps: int, sampling_rate: float, sampling: str) -> int:
    """What is composed: the steps, or the epochs that they begin."""
    from fedsieve.privacy import epochs

    if sampling == "poisson" or not 0 < sampling_rate <= 1:
        return steps
    return epochs(steps, round(1 / sampling_rate))


def _check_local_steps(local_steps: int) -> None:
    from fedsieve.experiments.toml import ConfigError

    if local_steps < 1:
        raise ConfigError(f"local_steps={local_steps} must be >= 1")


def _digits(value: float) -> str:
    from fedsieve.experiments.statement import epsilon

    return epsilon(value) if math.isfinite(value) else "infinite"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _facts(spent: Guarantee, multiplier: float | None = None) -> dict[str, Any]:
    """An epsilon for machines, with all that it depends on."""
    return {
        "epsilon": _finite(spent.epsilon),
        "noise_multiplier": spent.noise_multiplier if multiplier is None else multiplier,
        "relation": spent.relation,
        "accountant": spent.accountant,
        "delta": spent.delta,
        "unit": spent.unit,
        "sampling": spent.sampling,
        "statement": spent.sentence(),
    }


def _tell(spent: Guarantee, multiplier: float, as_json: bool) -> None:
    if as_json:
        say(json.dumps(_facts(spent, multiplier)))
    else:
        say(f"noise multiplier {multiplier:.6g}: {spent.sentence()}")
