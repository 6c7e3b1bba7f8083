"""Commands that look and do not train: list, show, report, schema, init, version."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from fedsieve.cli._options import Json
from fedsieve.cli._text import filled, note, pairs, say
from fedsieve.registry import ROOMS


def list_(
    family: Annotated[
        str | None,
        typer.Argument(
            metavar="FAMILY",
            help=f"One of: {', '.join(ROOMS)}.",
            autocompletion=lambda: list(ROOMS),
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the components that a configuration can name."""
    from fedsieve.registry import components

    families = list(ROOMS) if family is None else [family]
    found = {name: components(name) for name in families}
    if as_json:
        entries = [
            {"family": c.family, "name": c.name, "summary": c.summary, "paper": c.paper}
            for parts in found.values()
            for c in parts
        ]
        say(json.dumps(entries, indent=2))
        return
    for number, (name, parts) in enumerate(found.items()):
        say(("\n" if number else "") + name)
        said = [(c.name, f"{c.summary} [{c.paper}]" if c.paper else c.summary) for c in parts]
        say(pairs(said, indent=2) if said else "  (none)")


def show(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of the run.")],
    as_json: Json = False,
) -> None:
    """Print the summary of a run, or how far it has come."""
    from fedsieve.experiments import readable, statement
    from fedsieve.experiments.recorded import Run
    from fedsieve.experiments.run_directory import RunDirectory

    run = Run(RunDirectory.open(directory))
    if as_json:
        say(json.dumps(run.summary or None, indent=2))
    elif run.summary:
        say(pairs(readable.rows(run.summary, run.task, run.k)))
        for paragraph in statement.privacy(run.summary, run.config):
            say("\n" + filled(paragraph))
    else:
        say(
            f"{run.label}: not finished, {run.table.num_rows} of {run.config.get('rounds')} rounds "
            f"recorded; continue with: fedsieve resume {shlex.quote(str(directory))}"
        )


def report(
    directories: Annotated[
        list[Path], typer.Argument(metavar="DIR", help="Run directories; several are compared.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="Page to write (.html); default: report.html in DIR or the common parent.",
        ),
    ] = None,
) -> None:
    """Write the report page of one run, or of several side by side."""
    from fedsieve.experiments.report import report as write

    say(str(write(directories, out)))


def schema() -> None:
    """Print the JSON schema of the configuration."""
    from fedsieve.experiments.schema import schema as describe

    say(json.dumps(describe(), indent=2))


def init(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="File to write; default: print it.")
    ] = None,
) -> None:
    """Write a commented configuration to start from."""
    from fedsieve.experiments.starter import commented

    text = commented()
    if file is None:
        say(text.rstrip())
        return
    if file.exists():
        from fedsieve.experiments.toml import ConfigError

        raise ConfigError(f"{file} exists; choose another name or delete it")
    from fedsieve.experiments.files import write_text

    made = "" if file.parent.exists() else f" in the new directory {file.parent}"
    write_text(file, text)
    note(f"wrote {file}{made}; run it with: fedsieve run {shlex.quote(str(file))}")


def version() -> None:
    """Print the version."""
    from fedsieve._version import __version__

    say(f"fedsieve {__version__}")
