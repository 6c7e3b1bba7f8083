"""What an arena tells its user while it plays: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fedsieve.experiments.arena.cell import DONE, FAILED, Score
from fedsieve.experiments.arena.plan import Cell
from fedsieve.experiments.voices import AboveBar, Lines, Objects, Silence, Style, Voice


class Teller(Voice, Protocol):
    """Tells of an arena."""

    def cell(self, cell: Cell, score: Score) -> None:
        """Tell of a run that has ended."""
        ...


def teller(style: Style, runs: int, done: int = 0) -> Teller:
    """The teller for a style, of an arena of so many runs of which some are done."""
    if style == "quiet":
        return Quiet()
    if style == "json":
        return Json()
    if style == "auto" and sys.stdout.isatty():
        return Live(runs, done)
    return Plain(runs, done)


class Quiet(Silence):
    """Tells nothing but warnings."""

    def cell(self, cell: Cell, score: Score) -> None:
        """Nothing."""


class Json(Objects):
    """One JSON object per run."""

    def cell(self, cell: Cell, score: Score) -> None:
        """Which run it was and how it ended."""
        self.tell(
            {
                "rule": cell.rule,
                "attack": cell.attack,
                "byzantine": cell.f,
                "seed": cell.seed,
                "state": score.state,
                "test_accuracy": score.quality,
                "attack_success_rate": score.success,
                "reason": score.reason or None,
            }
        )


class Plain(Lines):
    """A line every ten seconds, for the first and the last run, and for each that failed."""

    def __init__(self, runs: int, done: int) -> None:
        super().__init__(runs)
        self._done = done

    def cell(self, cell: Cell, score: Score) -> None:
        """The run, now and then."""
        self._done += 1
        if self.is_due(self._done) or score.state == FAILED:
            self.say(f"run {self._done}/{self.total}  {_ended(cell, score)}")


class Live(AboveBar):
    """A bar with the last run and the time left."""

    def __init__(self, runs: int, done: int) -> None:
        console = Console()
        self._progress = Progress(
            TextColumn("run"),
            MofNCompleteColumn(),
            BarColumn(bar_width=12),
            TextColumn("{task.fields[last]}"),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task("", total=runs, completed=done, last="")
        super().__init__(console, self._progress)

    def cell(self, cell: Cell, score: Score) -> None:
        """Move the bar."""
        self._progress.update(self._task, advance=1, last=_ended(cell, score))


def _ended(cell: Cell, score: Score) -> str:
    if score.state != DONE or score.quality is None:
        return f"{cell.rule} / {cell.attack}: {score.state}"
    succeeds = "" if score.success is None else f", success {score.success:.3f}"
    return f"{cell.rule} / {cell.attack}: {score.quality:.3f}{succeeds}"
