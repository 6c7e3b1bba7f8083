"""What an arena tells its user while it plays: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import sys
import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fedsieve.experiments.arena.cell import DONE, Score
from fedsieve.experiments.arena.plan import Cell
from fedsieve.experiments.progress import EVERY, Style
from fedsieve.experiments.progress import Quiet as Silent


class Teller(Protocol):
    """Tells of an arena; a context manager around it."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def say(self, sentence: str) -> None:
        """Tell one sentence."""
        ...

    def warn(self, sentence: str) -> None:
        """Tell one sentence that nobody may miss, however little he wants to be told."""
        ...

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


class Quiet(Silent):
    """Tells nothing but warnings, on standard error."""

    def cell(self, cell: Cell, score: Score) -> None:
        """Nothing."""


class Json(Quiet):
    """One JSON object per run on standard error; the result has standard output."""

    def warn(self, sentence: str) -> None:
        """The sentence under the key "warning"."""
        super().warn(json.dumps({"warning": sentence}))

    def cell(self, cell: Cell, score: Score) -> None:
        """Which run it was and how it ended."""
        told = {
            "rule": cell.rule,
            "attack": cell.attack,
            "byzantine": cell.f,
            "seed": cell.seed,
            "state": score.state,
            "test_accuracy": score.quality,
            "reason": score.reason or None,
        }
        sys.stderr.write(json.dumps(told) + "\n")
        sys.stderr.flush()


class Plain(Quiet):
    """A line every ten seconds, for the first and the last run, and for each that failed."""

    def __init__(self, runs: int, done: int) -> None:
        self._runs, self._done = runs, done
        self._console = Console(soft_wrap=True, markup=False, highlight=False)
        self._told = -EVERY

    def say(self, sentence: str) -> None:
        """The sentence on a line."""
        self._console.print(sentence)

    def warn(self, sentence: str) -> None:
        """The sentence on a line."""
        self.say(sentence)

    def cell(self, cell: Cell, score: Score) -> None:
        """The run, now and then."""
        self._done += 1
        now = time.monotonic()
        if now - self._told < EVERY and self._done < self._runs:
            return
        self._told = now
        self.say(f"run {self._done}/{self._runs}  {_ended(cell, score)}")


class Live:
    """A bar with the last run and the time left."""

    def __init__(self, runs: int, done: int) -> None:
        self._console = Console()
        self._progress = Progress(
            TextColumn("run"),
            MofNCompleteColumn(),
            BarColumn(bar_width=12),
            TextColumn("{task.fields[last]}"),
            TimeRemainingColumn(compact=True),
            console=self._console,
            transient=True,
        )
        self._task = self._progress.add_task("", total=runs, completed=done, last="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def say(self, sentence: str) -> None:
        """The sentence above the bar."""
        self._console.print(sentence, highlight=False, markup=False)

    def warn(self, sentence: str) -> None:
        """The sentence above the bar."""
        self.say(sentence)

    def cell(self, cell: Cell, score: Score) -> None:
        """Move the bar."""
        self._progress.update(self._task, advance=1, last=_ended(cell, score))


def _ended(cell: Cell, score: Score) -> str:
    if score.state != DONE or score.quality is None:
        return f"{cell.rule} / {cell.attack}: {score.state}"
    return f"{cell.rule} / {cell.attack}: {score.quality:.3f}"
