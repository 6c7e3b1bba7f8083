"""``fedsieve run`` and ``fedsieve resume``."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fedsieve.cli._options import DataDir, JsonProgress, Quiet, Settings
from fedsieve.cli._text import note, pairs, say

if TYPE_CHECKING:
    from fedsieve.experiments.config import Config
    from fedsieve.experiments.run import Result


def run(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="Configuration (TOML); default: the demo's."),
    ] = None,
    settings: Settings = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Run directory; default: runs/NAME."),
    ] = None,
    data_dir: DataDir = None,
    quiet: Quiet = False,
    as_json: JsonProgress = False,
) -> None:
    """Train a model.

    Example: fedsieve run --set privacy.epsilon=1 --out runs/first
    """
    from fedsieve.experiments import toml

    overrides = list(settings or [])
    if data_dir is not None:
        overrides.append(f"data.dir={json.dumps(str(data_dir))}")
    config = toml.load(file, overrides)
    directory = _fresh(config) if out is None else out
    _refuse_if_taken(directory)

    from fedsieve.experiments.run import run as train
    from fedsieve.simulation.memory import keep_freed_memory

    keep_freed_memory()
    with _continuable(directory):
        result = train(config, directory, progress=_progress(quiet, as_json))
    _tell(result, quiet, as_json)


def resume(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of the run.")],
    quiet: Quiet = False,
    as_json: JsonProgress = False,
) -> None:
    """Continue a run that was interrupted, from its last checkpoint.

    A run that is finished is left as it is, and its summary is printed again.
    """
    from fedsieve.experiments.run import resume as proceed
    from fedsieve.simulation.memory import keep_freed_memory

    keep_freed_memory()
    with _continuable(directory):
        result = proceed(directory, progress=_progress(quiet, as_json))
    _tell(result, quiet, as_json)


@contextmanager
def _continuable(directory: Path) -> Iterator[None]:
    """After Ctrl-C, say how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        begun = (directory / "config.toml").is_file()
        how = f"go on with: fedsieve resume {shlex.quote(str(directory))}"
        note(f"stopped; {how}" if begun else "stopped before the first round")
        raise typer.Exit(1) from None


def _progress(quiet: bool, as_json: bool) -> Literal["auto", "quiet", "json"]:
    if quiet:
        return "quiet"
    return "json" if as_json else "auto"


def _fresh(config: Config) -> Path:
    """A directory under runs/ that is named after the run."""
    name = re.sub(r"[^\w.-]+", "-", config.title).strip("-.") or "run"
    return first_free(Path("runs") / name)


def first_free(wanted: Path) -> Path:
    """The first of NAME, NAME-2, NAME-3, ... that does not exist."""
    candidate, number = wanted, 1
    while candidate.exists():
        number += 1
        candidate = wanted.with_name(f"{wanted.name}-{number}")
    return candidate


def _refuse_if_taken(directory: Path) -> None:
    """Before the slow imports: the check that the run itself will make again."""
    from fedsieve.experiments.run_directory import RunDirectory

    RunDirectory(directory).refuse_if_taken()


def _tell(result: Result, quiet: bool, as_json: bool) -> None:
    from fedsieve.experiments import readable
    from fedsieve.experiments.recorded import Run
    from fedsieve.experiments.run_directory import RunDirectory

    if as_json:
        say(json.dumps(result.summary))
    elif not quiet:
        assert result.directory is not None
        run = Run(RunDirectory(result.directory))
        say(pairs(readable.rows(result.summary, run.task, result.config.projection.k)))
    if result.directory is not None and not quiet:
        places = [("run", result.directory), ("report", result.directory / "report.html")]
        tell = note if as_json else say
        tell(pairs((name, str(path)) for name, path in places))
