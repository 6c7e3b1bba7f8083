"""``fedsieve arena``."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedsieve.cli._options import DataDir, JsonProgress, Quiet, Settings
from fedsieve.cli._text import note, pairs, say, width

if TYPE_CHECKING:
    from fedsieve.experiments.arena.plan import Plan


def arena(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="Plan (TOML); default: MNIST, 12 rules, 9 attacks."),
    ] = None,
    settings: Settings = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="DIR", help="Directory, continued if begun; default: runs/arena."
        ),
    ] = None,
    data_dir: DataDir = None,
    quiet: Quiet = False,
    as_json: JsonProgress = False,
) -> None:
    """Play every rule against every attack, and show what each pair leaves.

    Example: fedsieve arena --set 'arena.byzantine=[2,4,6]' --out runs/first

    An arena that was stopped goes on when it is called again with the same --out.
    """
    from fedsieve.cli.train import first_free

    directory = first_free(Path("runs") / "arena") if out is None else out
    plan = _plan(file, list(settings or []), data_dir, directory)

    from fedsieve.experiments.arena.cell import FAILED
    from fedsieve.experiments.arena.run import arena as play
    from fedsieve.experiments.arena.tables import as_json as everything
    from fedsieve.experiments.arena.tables import text

    try:
        done = play(plan, directory, progress="quiet" if quiet else "json" if as_json else "auto")
    except KeyboardInterrupt:
        begun = (directory / "arena.toml").is_file()
        how = f"go on with: fedsieve arena --out {shlex.quote(str(directory))}"
        note(f"stopped; {how}" if begun else "stopped before the first run")
        raise typer.Exit(1) from None
    if as_json:
        say(json.dumps(everything(done.board, done.source), allow_nan=False))
    elif not quiet:
        say("\n" + text(done.board, width()))
    if not quiet:
        tell = note if as_json else say
        tell("\n" + pairs([("arena", str(directory)), ("report", str(done.page))]))
    failed = sum(entry.state == FAILED for entry in done.board.entries.values())
    if failed:
        again = f"fedsieve arena --out {shlex.quote(str(directory))}"
        note(f"error: {failed} places of the table failed; try them again with: {again}")
        raise typer.Exit(1)


def _plan(file: Path | None, overrides: list[str], data_dir: Path | None, directory: Path) -> Plan:
    """The plan that is given, or else that of the directory, or else, in a new one, the default.

    Raises:
        ConfigError: Nothing is given, and what is in the directory is no arena.
    """
    from fedsieve.experiments.arena.plan import load
    from fedsieve.experiments.toml import ConfigError

    if data_dir is not None:
        overrides.append(f"data.dir={json.dumps(str(data_dir))}")
    held = directory / "arena.toml"
    if file is None and directory.exists() and not held.is_file():
        raise ConfigError(
            f"{directory} holds no arena to go on with: there is no arena.toml in it; give the "
            "FILE of one, or for the default arena an --out that does not exist yet"
        )
    return load(held if file is None and held.is_file() else file, overrides)
