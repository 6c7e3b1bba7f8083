"""``fedsieve privacy ledger``: what a client has released, for whoever operates it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from fedsieve.cli._epsilon import Json, NoiseLaw, Variance, Way, facts, law_of
from fedsieve.cli._text import count, pairs, say

if TYPE_CHECKING:
    from fedsieve.privacy.guarantee import Event, Sampling
    from fedsieve.privacy.ledger_view import Account


def ledger(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The client's ledger.")],
    noise_multiplier: Annotated[
        float | None,
        typer.Option(help="What is left at this noise; default: at each kind released so far."),
    ] = None,
    sampling_rate: Annotated[
        float | None, typer.Option(help="With --noise-multiplier; in (0, 1].")
    ] = None,
    steps: Annotated[int, typer.Option(help="Noisy releases per message, >= 1.")] = 1,
    noise: NoiseLaw = "gaussian",
    variance: Variance = None,
    sampling: Way = "poisson",
    as_json: Json = False,
) -> None:
    """Show the budgets of a client's ledger: what is spent, by which runs, and what is left."""
    from fedsieve.experiments.toml import ConfigError, refusing
    from fedsieve.privacy.ledger_view import accounts
    from fedsieve.privacy.limits import Terms

    if not file.is_file():
        raise ConfigError(f"{file} is no file; it is the client that makes its ledger")
    if (noise_multiplier is None) != (sampling_rate is None):
        raise ConfigError(
            f"noise_multiplier={noise_multiplier} and sampling_rate={sampling_rate}: what is left "
            "needs both, or neither"
        )
    asked: tuple[Event, ...] = ()
    if noise_multiplier is not None and sampling_rate is not None:
        with refusing():
            law, way = law_of(noise, variance), cast("Sampling", sampling)
            asked = (Terms(noise_multiplier, sampling_rate, 1.0, steps, *law, way).event,)
    found = accounts(file)
    with refusing():  # what a data set's relation or unit says nothing about
        told = [_told(account, asked) for account in found]
    if as_json:
        say(json.dumps(told, indent=2))
        return
    for number, one in enumerate(told):
        say(("\n" if number else "") + str(one["data"]))
        budget = (
            f"epsilon = {one['budget']:g} at delta = {one['delta']:g} per {one['unit']}, "
            f"{one['relation']}"
        )
        rows = [("budget", budget), ("spent", one["statement"])]
        rows += [("left", _words(left)) for left in one["left"]]
        rows += [(f"run {run['run']}", _history(run)) for run in one["runs"]]
        say(pairs(rows, indent=2))


def _told(account: Account, asked: tuple[Event, ...]) -> dict[str, Any]:
    """An account for machines."""
    from dataclasses import asdict, replace

    kinds = asked or tuple(replace(event, steps=1) for event in account.spent)
    left = [
        asdict(kind) | {"releases": kind.releases, "messages": account.left(kind)} for kind in kinds
    ]
    runs = [asdict(run) for run in account.runs]
    releases = sum(event.releases for event in account.spent)
    spent = facts(account.guarantee()) | {"releases": releases}
    return {"data": account.data, "budget": account.budget.limit} | spent | {
        "rounds": account.rounds, "left": left, "runs": runs,
    }  # fmt: skip


def _words(left: dict[str, Any]) -> str:
    from fedsieve.privacy.guarantee import LAWS

    noise = f"{LAWS[left['law']]} noise of multiplier {left['noise_multiplier']:g}"
    messages = count(left["messages"], "message")
    if left["sampling"] == "poisson":
        released = count(left["releases"], "release")
        drawn = f"Poisson sampling with rate {left['sampling_rate']:g}"
    else:
        each = count(left["releases"] // left["steps"], "release")
        released = f"{count(left['steps'], 'epoch')} of {each}"
        drawn = _DRAWN[left["sampling"]]
    return f"{messages} of {released}, {noise}, {drawn}"


_DRAWN = {"shuffled": "shuffled batches", "random-allocation": "random allocation"}
"""How records come to the steps of an epoch."""


def _history(run: dict[str, Any]) -> str:
    return (
        f"{count(run['rounds'], 'round')} from {run['first']} to {run['last']}, "
        f"{count(run['steps'], 'release')}; {count(run['kept'], 'message')} kept to be sent again"
    )
