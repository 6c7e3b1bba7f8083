"""``fedsieve reproduce``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from fedsieve.cli._text import note, say


def reproduce(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="Studies by folder or number; default: all."),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="The size that is recorded: minutes a study.")
    ] = False,
    record: Annotated[
        bool, typer.Option("--record", help="With --full: write each study's measured.json.")
    ] = False,
    papers: Annotated[Path, typer.Option("--papers", metavar="DIR", help="The studies.")] = Path(
        "papers"
    ),
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Where runs are kept; continued.")
    ] = Path("runs") / "papers",
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", metavar="DIR", help="Where the data sets of the full form are."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the tables only.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Repeat published results, and compare with what the papers say.

    Example: fedsieve reproduce 21 --full

    Ends with 1 if a figure lies outside its tolerance. Without --full the studies are reduced to
    seconds, and only the figures that survive this are judged. A call that was stopped goes on
    where it was.
    """
    if record and not full:
        raise typer.BadParameter("--record needs --full: only the full form is recorded")
    from fedsieve.experiments.papers.reproduce import reproduce as repeat
    from fedsieve.experiments.papers.study import studies
    from fedsieve.experiments.papers.verdict import table
    from fedsieve.simulation.memory import keep_freed_memory

    chosen = studies(papers, tuple(names or ()))
    keep_freed_memory()
    done = []
    for study in chosen:
        told = (lambda _: None) if quiet else note
        done.append(repeat(study, out, full=full, data_dir=data_dir, say=told))
        if record:
            done[-1].record()
        if not as_json:
            say(f"{study.name}: {study.expected.paper}\n\n{table(done[-1].verdicts)}\n")
    if as_json:
        say(json.dumps([outcome.as_dict() for outcome in done], allow_nan=False))
    if missed := sum(outcome.missed for outcome in done):
        judged = sum(len(outcome.verdicts) for outcome in done)
        note(f"{missed} of {judged} figures lie outside their tolerance")
        raise typer.Exit(1)
