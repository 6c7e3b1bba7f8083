"""What a running simulation tells its user: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console, Group
from rich.live import Live as Display
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from fedsieve.experiments import statement
from fedsieve.experiments.quality import QUALITY, Quality
from fedsieve.experiments.voices import AboveBar, Lines, Objects, Silence, Style, Voice

if TYPE_CHECKING:
    from fedsieve.learning.data import Task

TERMS = ("delta", "privacy_unit", "neighbouring_relation", "sampling", "accountant")


class Teller(Voice, Protocol):
    """Tells of a run."""

    def round(self, row: dict[str, Any]) -> None:
        """Tell of a finished round; a row with an epsilon holds its `statement.terms` too."""
        ...


def teller(style: Style, rounds: int, done: int = 0, task: Task = "classification") -> Teller:
    """The teller for a style, of a run of so many rounds of which some are done."""
    if style == "quiet":
        return Quiet()
    if style == "json":
        return Json()
    if style == "auto" and sys.stdout.isatty():
        return Live(rounds, done, QUALITY[task])
    return Plain(rounds, QUALITY[task])


class Quiet(Silence):
    """Tells nothing but warnings."""

    def round(self, row: dict[str, Any]) -> None:
        """Nothing."""


class Json(Objects):
    """One JSON object per evaluated round."""

    def round(self, row: dict[str, Any]) -> None:
        """The round's figures, if it was evaluated."""
        if row.get("accuracy") is not None:
            kept = {k: row.get(k) for k in ("round", "accuracy", "loss", "epsilon", "bits_up")}
            self.tell(kept | {k: row[k] for k in TERMS if k in row})


class Plain(Lines):
    """A line every ten seconds, and for the first and the last round."""

    def __init__(self, rounds: int, quality: Quality) -> None:
        super().__init__(rounds)
        self._quality = quality
        self._seen: dict[str, Any] = {}

    def round(self, row: dict[str, Any]) -> None:
        """The round's figures, now and then."""
        self._seen = _latest(self._seen, row)
        done = row["round"] + 1
        if self.is_due(done):
            figures = _figures(self._seen, self._quality)
            self.say(f"round {done}/{self.total}  {figures}  {_spent(self._seen)}".rstrip())


class Live(AboveBar):
    """A bar with the quality, bits and the time left; below it the privacy that was spent."""

    def __init__(self, rounds: int, done: int, quality: Quality) -> None:
        self._quality = quality
        console = Console()
        self._progress = Progress(
            TextColumn("round {task.completed}/{task.total}"),
            BarColumn(bar_width=16),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(compact=True),
            console=console,
        )
        self._task = self._progress.add_task("", total=rounds, completed=done, figures="")
        self._seen: dict[str, Any] = {}
        display = Display(get_renderable=self._drawn, console=console, transient=True)
        super().__init__(console, display)

    def round(self, row: dict[str, Any]) -> None:
        """Move the bar."""
        self._seen = _latest(self._seen, row)
        figures = _figures(self._seen, self._quality)
        self._progress.update(self._task, completed=row["round"] + 1, figures=figures)

    def _drawn(self) -> Group:
        return Group(self._progress, Text(_spent(self._seen)))


def _latest(seen: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    return seen | {key: value for key, value in row.items() if value is not None}


def _figures(row: dict[str, Any], quality: Quality) -> str:
    parts = []
    if "accuracy" in row:
        parts.append(f"{quality.name} {quality.told(row['accuracy'])}")
    if row.get("senders"):
        parts.append(f"{row['bits_up'] / row['senders'] / 8000:.1f} kB up")
    return "  ".join(parts)


def _spent(row: dict[str, Any]) -> str:
    return statement.spent(row) if "epsilon" in row else ""
