"""``fedsieve demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedsieve.cli._options import DataDir
from fedsieve.cli._text import say


def demo(
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Directory; default: runs/demo."),
    ] = None,
    data: Annotated[str, typer.Option(help="Data set.")] = "fashion-mnist-subset",
    epsilon: Annotated[float, typer.Option(help="Epsilon of every client.")] = 4.0,
    data_dir: DataDir = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of each run.")] = 300,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the table only.")] = False,
) -> None:
    """Compare privacy without attack, under attack, with a robust rule, and with sieve."""
    from fedsieve.cli.train import first_free
    from fedsieve.experiments.demo import compare
    from fedsieve.simulation.memory import keep_freed_memory

    keep_freed_memory()
    compare(
        first_free(Path("runs") / "demo") if out is None else out,
        data=data,
        epsilon=epsilon,
        folder=None if data_dir is None else str(data_dir),
        rounds=rounds,
        progress="quiet" if quiet else "auto",
        say=say,
    )
