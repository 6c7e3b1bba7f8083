"""``fedsieve privacy``: what noise costs, and what a budget buys."""

from __future__ import annotations

import json
import textwrap
from dataclasses import dataclass, replace
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
from fedsieve.cli._text import count, help_without_command, note, pairs, say, width

if TYPE_CHECKING:
    from fedsieve.privacy.guarantee import Law, Sampling
    from fedsieve.privacy.guarantee import Relation as Neighbours
    from fedsieve.privacy.guarantee import Unit as Protected
    from fedsieve.privacy.settings import Setting

app = typer.Typer(
    help="Convert between noise, rounds and epsilon; explain what a run or a client released.",
    rich_markup_mode=None,
    invoke_without_command=True,
    callback=help_without_command,
)


@app.command(short_help="Epsilon of noisy sums over sampled records.")
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
        terms = _Terms(delta, noise, variance, relation, unit, sampling)
        spent = terms.setting(noise_multiplier, sampling_rate, steps).guarantee()
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
        terms = _Terms(delta, noise, variance, relation, unit, sampling)
        setting = terms.setting(1.0, sampling_rate, steps)
        multiplier = noise_multiplier(epsilon, sampling_rate, setting.steps, *terms.calibrated)
        spent = replace(setting, noise_multiplier=multiplier).guarantee()
    tell(spent, multiplier, as_json)


@app.command(short_help="Largest number of rounds that keeps within epsilon.")
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
    sampling: Way = "poisson",
    as_json: Json = False,
) -> None:
    """Largest number of rounds that keeps within epsilon at this noise."""
    from fedsieve.experiments.toml import refusing
    from fedsieve.privacy.calibration import MOST_STEPS, max_steps

    with refusing():
        _check_local_steps(local_steps)
        terms = _Terms(delta, noise, variance, relation, unit, sampling)
        one = terms.setting(noise_multiplier, sampling_rate, local_steps)
        steps = max_steps(epsilon, noise_multiplier, sampling_rate, *terms.calibrated)
        releases = steps if sampling == "poisson" else steps * round(1 / sampling_rate)
        fit = releases // local_steps
        spent = terms.setting(noise_multiplier, sampling_rate, fit * local_steps).guarantee()
        first = spent if fit else one.guarantee()
    each = count(local_steps, "noisy release")
    if as_json:
        say(json.dumps({"rounds": fit, **facts(spent, noise_multiplier)}))
    elif fit:
        many = f"{fit} or more rounds" if steps == MOST_STEPS else count(fit, "round")
        fits = "fits" if fit == 1 else "fit"
        say(f"{many} of {each} {fits}: {spent.sentence()}")
    else:
        say(f"0 rounds fit within epsilon={epsilon:g}: one of {each} costs {first.sentence()}")


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
    sampling: Way = "poisson",
    as_json: Json = False,
) -> None:
    """Largest sampling rate that keeps within epsilon at this noise."""
    from decimal import ROUND_FLOOR

    from fedsieve.experiments.toml import refusing
    from fedsieve.privacy._digits import shown
    from fedsieve.privacy.calibration import max_sampling_rate

    with refusing():
        terms = _Terms(delta, noise, variance, relation, unit, sampling)
        if unit == "client":
            raise ValueError(
                "unit='client' has no sampling rate to find: whether a client takes part is no "
                "secret; allowed is unit='record', or `fedsieve privacy rounds --sampling-rate 1`"
            )
        q = max_sampling_rate(epsilon, noise_multiplier, steps, *terms.calibrated)
        spent = terms.setting(noise_multiplier, q, steps).guarantee()
    if as_json:
        say(json.dumps({"sampling_rate": q, **facts(spent, noise_multiplier)}))
    else:
        told = shown(q, ROUND_FLOOR) if sampling == "poisson" else f"1/{round(1 / q)}"
        say(f"sampling rate {told}: {spent.sentence()}")


@app.command(short_help="Plot epsilon against rounds; turn each setting.")
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
    sampling: Way = "poisson",
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="Picture to write (.png).")
    ] = Path("epsilon.png"),
    as_json: Json = False,
) -> None:
    """Plot epsilon against rounds, and show what each setting does to it."""
    from fedsieve.experiments.files import refuse_other_ending
    from fedsieve.experiments.toml import ConfigError, refusing
    from fedsieve.privacy._digits import rounded_up
    from fedsieve.privacy.settings import knobs

    refuse_other_ending(out, ".png")
    with refusing():
        _check_local_steps(local_steps)
        if rounds < 1:
            raise ConfigError(f"rounds={rounds} must be >= 1")
        steps = rounds * local_steps
        terms = _Terms(delta, noise, variance, relation, unit, sampling)
        setting = terms.setting(noise_multiplier, sampling_rate, steps)
        spent = setting.guarantee()
        turned = knobs(setting)
        at, curves = _curves(terms, setting, rounds, local_steps)
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


@app.command(short_help="Everything that a run released, and what it cost.")
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


app.command("table", short_help="Epsilon, noise, rate or steps from the other three.")(
    _tables.table
)
app.command("published")(_tables.published)
app.command("ledger", short_help="What a client has spent, and what is left.")(_ledger.ledger)


@dataclass(frozen=True)
class _Terms:
    """The options that the commands share: what a statement is made under."""

    delta: float
    noise: str
    variance: float | None
    relation: str
    unit: str
    sampling: str

    def setting(self, noise_multiplier: float, sampling_rate: float, releases: int) -> Setting:
        """So many releases under these terms."""
        from fedsieve.privacy.guarantee import composed_steps
        from fedsieve.privacy.settings import Setting

        sampling = cast("Sampling", self.sampling)
        return Setting(
            noise_multiplier,
            sampling_rate,
            composed_steps(releases, sampling_rate, sampling),
            self.delta,
            cast("Neighbours", self.relation),
            cast("Protected", self.unit),
            *law_of(self.noise, self.variance),
            sampling,
        )

    @property
    def calibrated(self) -> tuple[float, Neighbours, Law, float | None, Sampling]:
        """What the calibrations take after the three numbers that they are given."""
        law, variance = law_of(self.noise, self.variance)
        relation, sampling = cast("Neighbours", self.relation), cast("Sampling", self.sampling)
        return self.delta, relation, law, variance, sampling


def _curves(
    terms: _Terms, setting: Setting, rounds: int, local_steps: int
) -> tuple[list[int], dict[str, list[float]]]:
    """Rounds, and for noise halved and doubled the epsilon after each."""
    at = sorted({max(1, round(rounds * share / 16)) for share in range(1, 17)})
    curves = {}
    for factor in (1, 0.5, 2):
        noise = setting.noise_multiplier * factor
        curves[f"noise multiplier {noise:.4g}"] = [
            terms.setting(noise, setting.sampling_rate, t * local_steps).guarantee().epsilon
            for t in at
        ]
    return at, curves


def _check_local_steps(local_steps: int) -> None:
    from fedsieve.experiments.toml import ConfigError

    if local_steps < 1:
        raise ConfigError(f"local_steps={local_steps} must be >= 1")
