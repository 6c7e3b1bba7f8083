"""``fedsieve data``: where data sets come from, and whether they are what they should be."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedsieve.cli._text import help_without_command, note, pairs, say

app = typer.Typer(
    help="List, fetch and verify data sets.",
    rich_markup_mode=None,
    invoke_without_command=True,
    callback=help_without_command,
)

DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", metavar="DIR", help="Directory; default: the places of a run."),
]


@app.command("list")
def list_(data_dir: DataDir = None) -> None:
    """List the data sets, and where each of them lies on this machine."""
    from fedsieve.experiments.toml import refusing
    from fedsieve.learning.datasets import sources
    from fedsieve.registry import components

    rows = []
    for held in components("dataset"):
        with refusing():
            found = sources(held.name, data_dir)
        here = [f"{s.kind}: {s.place}" for s in found if s.state == "complete"]
        partly = [f"incomplete in {s.place}" for s in found if s.state == "incomplete"]
        absent = "not on this machine" if found else _without_place(held.name)
        rows.append((held.name, f"{held.summary} ({'; '.join(here or partly or [absent])})"))
    say(pairs(rows))


def _without_place(name: str) -> str:
    """What is said of a data set that is looked for nowhere."""
    return "lies where data.dir says" if name == "folder" else "needs no files"


@app.command(short_help="Download a data set and verify it.")
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Data set.")],
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir", metavar="DIR", help="Directory to put it in; default: the cache."
        ),
    ] = None,
) -> None:
    """Download a data set from its publisher and verify it; prints its directory."""
    from fedsieve.experiments.toml import ConfigError
    from fedsieve.learning.datasets import DataError, sources
    from fedsieve.learning.datasets import fetch as download

    if not any(source.kind == "download" for source in sources(name)):
        raise ConfigError(f"{name} needs no download")
    note(f"fetching {name}; every file is checked against its pinned sha256")
    try:
        say(str(download(name, data_dir)))
    except DataError as error:
        note(f"error: {error}")
        raise typer.Exit(1) from error


@app.command(short_help="Compare every copy on this machine with its checksums.")
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Data sets; default: all.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Read every copy on this machine and compare its checksums; exit code 1 if one is wrong."""
    from fedsieve.learning.datasets import DataError, sources
    from fedsieve.learning.datasets import verify as check
    from fedsieve.registry import component, components

    chosen = [component("dataset", name) for name in names or ()] or components("dataset")
    wrong = 0
    for held in chosen:
        try:
            verified = check(held.name, data_dir)
            places = sources(held.name, data_dir)
            partly = [source.place for source in places if source.state == "incomplete"]
        except DataError as error:
            note(f"error: {error}")
            wrong += 1
            continue
        for path, sha256 in verified.items():
            say(f"{held.name}: {path} is right, sha256 of its content, unpacked: {sha256}")
        for place in partly:
            note(f"error: {held.name}: files are missing in {place}")
        # A set that the user names is meant to be there.
        missing = bool(places) and not (verified or partly) and names is not None
        if missing:
            note(f"error: {held.name}: no copy in {data_dir or 'any place that is searched'}")
        elif not verified and not partly:
            say(f"{held.name}: no copy to verify")
        wrong += len(partly) + missing
    if wrong:
        raise typer.Exit(1)
