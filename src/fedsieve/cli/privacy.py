"""``fedsieve privacy``: what noise costs, and what a budget buys."""

from __future__ import annotations

import json
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from fedsieve.cli import privacy_ledger as _ledger
from fedsieve.cli import privacy_tables as _tables
from fedsieve.cli._epsilon import (
    Delta,
    Json,
    LocalSteps,
    Multiplier,
    NoiseLaw,
    Rate,
    Relation,
    Steps,
    Target,
    Unit,
    Variance,
    Way,
    facts,
    finite,
    law_of,
    tell,
)
from fedsieve.cli._text import help_without_command, note, pairs, say, width

if TYPE_CHECKING:
    from fedsieve.privacy.guarantee import Relation as Neighbours
    from fedsieve.privacy.guarantee import Sampling
    from fedsieve.privacy.guarantee import Unit as Protected
    from fedsieve.privacy.settings import Setting

app = typer.Typer(
    help="Convert between noise, rounds and epsilon; explain what a run or a client released.",
    rich_markup_mode=None,
    invoke_without_command=True,
    callback=help_without_command,
)


@app.command()
def epsilon(
    noise_multiplier: Multiplier,
    sampling_rate: Rate,
    steps: Steps,
    delta: Delta,
    noise: NoiseLaw = "gaussian",
    variance: Variance = None,
    relation: Relation = "add-remove",
    unit: Unit = "record",
    sampling: Way = "poisson",
    as_json: Json = False,
) -> None:
    """Epsilon of noisy sums over sampled records, composed over the steps."""
    from fedsieve.experiments.toml import refusing

    with refusing():
        setting = _setting(
            noise_multiplier, sampling_rate, steps, delta, noise, variance, relation, unit, sampling
        )
        spent = setting.guarantee()
    tell(spent, noise_multiplier, as_json)


@app.command("noise")
def noise_(
    epsilon: Target,
    sampling_rate: Rate,
    steps: Steps,
    delta: Delta,
    noise: NoiseLaw = "gaussian",
    variance: Variance = None,
    relation: Relation = "add-remove",
    unit: Unit = "record",
    sampling: Way = "poisson",
    as_json: Json = False,
) -> None:
    """Smallest noise multiplier that keeps within epsilon."""
    from fedsieve.experiments.toml import refusing
    from fedsieve.privacy.calibration import noise_multiplier

    with refusing():
        setting = _setting(
            1.0, sampling_rate, steps, delta, noise, variance, relation, unit, sampling
        )
        multiplier = noise_multiplier(
            epsilon, sampling_rate, setting.steps, delta,
            setting.relation, setting.law, setting.variance, setting.sampling,
        )  # fmt: skip
        spent = replace(setting, noise_multiplier=multiplier).guarantee()
    tell(spent, multiplier, as_json)


@app.command()
def rounds(
    epsilon: Target,
    noise_multiplier: Multiplier,
    sampling_rate: Rate,
    delta: Delta,
    local_steps: LocalSteps = 1,
    noise: NoiseLaw = "gaussian",
    variance: Variance = None,
    relation: Relation = "add-remove",
    unit: Unit = "record",
    as_json: Json = False,
) -> None:
    """Largest number of rounds that keeps within epsilon at this noise."""
    from fedsieve.experiments.toml import refusing
    from fedsieve.privacy.calibration import MOST_STEPS, max_steps

    with refusing():
        _check_local_steps(local_steps)
        setting = _setting(
            noise_multiplier, sampling_rate, 0, delta, noise, variance, relation, unit
        )
        steps = max_steps(
            epsilon, noise_multiplier, sampling_rate, delta,
            setting.relation, setting.law, setting.variance,
        )  # fmt: skip
        fit = steps // local_steps
        spent = replace(setting, steps=fit * local_steps).guarantee()
    if as_json:
        say(json.dumps({"rounds": fit, **facts(spent, noise_multiplier)}))
        return
    more = " or more" if steps == MOST_STEPS else ""
    say(f"{fit}{more} rounds of {local_steps} noisy releases fit: {spent.sentence()}")


@app.command()
def rate(
    epsilon: Target,
    noise_multiplier: Multiplier,
    steps: Steps,
    delta: Delta,
    noise: NoiseLaw = "gaussian",
    variance: Variance = None,
    relation: Relation = "add-remove",
    unit: Unit = "record",
    as_json: Json = False,
) -> None:
    """Largest sampling rate that keeps within epsilon at this noise."""
    from fedsieve.experiments.toml import refusing
    from fedsieve.privacy.calibration import max_sampling_rate

    with refusing():
        setting = _setting(noise_multiplier, 1.0, steps, delta, noise, variance, relation, unit)
        q = max_sampling_rate(
            epsilon, noise_multiplier, steps, delta,
            setting.relation, setting.law, setting.variance,
        )  # fmt: skip
        spent = replace(setting, sampling_rate=q).guarantee()
    if as_json:
        say(json.dumps({"sampling_rate": q, **facts(spent, noise_multiplier)}))
    else:
        say(f"sampling rate {q:.6g}: {spent.sentence()}")


@app.command()
def curve(
    noise_multiplier: Multiplier,
    sampling_rate: Rate,
    rounds: Annotated[int, typer.Option(help="Number of rounds, >= 1.")],
    delta: Delta,
    local_steps: LocalSteps = 1,
    noise: NoiseLaw = "gaussian",
    variance: Variance = None,
    relation: Relation = "add-remove",
    unit: Unit = "record",
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="PNG file to write.")
    ] = Path("epsilon.png"),
    as_json: Json = False,
) -> None:
    """Plot epsilon against rounds, and show what each setting does to it."""
    from fedsieve.experiments.toml import ConfigError, refusing
    from fedsieve.privacy.guarantee import rounded_up
    from fedsieve.privacy.settings import knobs

    with refusing():
        _check_local_steps(local_steps)
        if rounds < 1:
            raise ConfigError(f"rounds={rounds} must be >= 1")
        steps = rounds * local_steps
        setting = _setting(
            noise_multiplier, sampling_rate, steps, delta, noise, variance, relation, unit
        )
        spent = setting.guarantee()
        turned = knobs(setting)
        at, curves = _curves(setting, rounds, local_steps)
    from fedsieve.experiments.epsilon_figure import save_curves

    title = f"{unit} level, {relation}, delta = {delta:g}; {spent.sampling}; {spent.accountant}"
    save_curves(out, at, curves, title)
    own = curves[next(iter(curves))]
    if as_json:
        table = [{"rounds": t, "epsilon": finite(e)} for t, e in zip(at, own, strict=True)]
        turns = [{"knob": t.knob, "value": t.value, **facts(t.guarantee)} for t in turned]
        told = {**facts(spent, noise_multiplier), "curve": table, "knobs": turns, "png": str(out)}
        say(json.dumps(told))
        return
    say(f"after {rounds} rounds: {spent.sentence()}")
    say("\nepsilon after so many rounds, all else as above")
    say(pairs([(f"{t}", rounded_up(e)) for t, e in zip(at, own, strict=True)], indent=2))
    say("\nepsilon with one setting changed, all else as above")
    rows = [(f"{t.knob} {t.value:.6g}" if t.knob != "relation" else str(t.value), t.guarantee)
            for t in turned]  # fmt: skip
    say(pairs([(n, f"{rounded_up(g.epsilon)}  ({g.accountant})") for n, g in rows], indent=2))
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


app.command("table")(_tables.table)
app.command("published")(_tables.published)
app.command("ledger")(_ledger.ledger)


def _setting(
    noise_multiplier: float,
    sampling_rate: float,
    steps: int,
    delta: float,
    noise: str,
    variance: float | None,
    relation: str,
    unit: str,
    sampling: str = "poisson",
) -> Setting:
    from fedsieve.privacy.settings import Setting

    if unit == "client" and sampling_rate != 1:
        raise ValueError(
            f"sampling_rate={sampling_rate} with unit='client': whether a client takes part is no "
            "secret, so nothing is gained from it; allowed is 1"
        )
    return Setting(
        noise_multiplier,
        sampling_rate,
        _composed(steps, sampling_rate, sampling),
        delta,
        cast("Neighbours", relation),
        cast("Protected", unit),
        *law_of(noise, variance),
        cast("Sampling", sampling),
    )


def _composed(steps: int, sampling_rate: float, sampling: str) -> int:
    """What is composed: the steps, or the epochs that they begin."""
    from fedsieve.privacy import epochs

    if sampling == "poisson" or not 0 < sampling_rate <= 1:
        return steps
    return epochs(steps, round(1 / sampling_rate))


def _curves(
    setting: Setting, rounds: int, local_steps: int
) -> tuple[list[int], dict[str, list[float]]]:
    """Rounds, and for noise halved and doubled the epsilon after each."""
    at = sorted({max(1, round(rounds * share / 16)) for share in range(1, 17)})
    curves = {}
    for factor in (1, 0.5, 2):
        one = replace(setting, noise_multiplier=setting.noise_multiplier * factor)
        curves[f"noise multiplier {one.noise_multiplier:.4g}"] = [
            replace(one, steps=t * local_steps).guarantee().epsilon for t in at
        ]
    return at, curves


def _check_local_steps(local_steps: int) -> None:
    from fedsieve.experiments.toml import ConfigError

    if local_steps < 1:
        raise ConfigError(f"local_steps={local_steps} must be >= 1")
