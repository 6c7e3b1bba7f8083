"""What a running simulation tells its user: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import sys
import time
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from rich.console import Console, Group
from rich.live import Live as Display
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from fedsieve.experiments import statement

Style = Literal["auto", "plain", "quiet", "json"]
"""``auto``: live on a terminal, else plain; ``json``: one JSON object per evaluated round."""

EVERY = 10.0  # seconds between two plain lines
TERMS = ("delta", "privacy_unit", "neighbouring_relation", "sampling", "accountant")


class Teller(Protocol):
    """Tells of a run; a context manager around it."""

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

    def round(self, row: dict[str, Any]) -> None:
        """Tell of a finished round; a row with an epsilon holds its `statement.terms` too."""
        ...


def teller(style: Style, rounds: int, done: int = 0) -> Teller:
    """The teller for a style, of a run of so many rounds of which some are done."""
    if style == "quiet":
        return Quiet()
    if style == "json":
        return Json()
    if style == "auto" and sys.stdout.isatty():
        return Live(rounds, done)
    return Plain(rounds)


class Quiet:
    """Tells nothing but warnings, on standard error."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def say(self, sentence: str) -> None:
        """Nothing."""

    def warn(self, sentence: str) -> None:
        """The sentence on a line of standard error."""
        sys.stderr.write(sentence + "\n")
        sys.stderr.flush()

    def round(self, row: dict[str, Any]) -> None:
        """Nothing."""


class Json(Quiet):
    """One JSON object per evaluated round on standard error; the summary has standard output.

    A warning is such an object too.
    """

    def warn(self, sentence: str) -> None:
        """The sentence under the key "warning"."""
        super().warn(json.dumps({"warning": sentence}))

    def round(self, row: dict[str, Any]) -> None:
        """The round's figures, if it was evaluated."""
        if row.get("accuracy") is not None:
            kept = {k: row.get(k) for k in ("round", "accuracy", "loss", "epsilon", "bits_up")}
            kept |= {k: row[k] for k in TERMS if k in row}
            sys.stderr.write(json.dumps(kept) + "\n")
            sys.stderr.flush()


class Plain(Quiet):
    """A line every ten seconds, and for the first and the last round."""

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self._console = Console(soft_wrap=True, markup=False, highlight=False)
        self._told = -EVERY
        self._seen: dict[str, Any] = {}

    def say(self, sentence: str) -> None:
        """The sentence on a line."""
        self._console.print(sentence)

    def warn(self, sentence: str) -> None:
        """The sentence on a line."""
        self.say(sentence)

    def round(self, row: dict[str, Any]) -> None:
        """The round's figures, now and then."""
        self._seen = _latest(self._seen, row)
        done, now = row["round"] + 1, time.monotonic()
        if now - self._told < EVERY and done < self._rounds:
            return
        self._told = now
        told = f"round {done}/{self._rounds}  {_figures(self._seen)}  {_spent(self._seen)}"
        self._console.print(told.rstrip())


class Live:
    """A bar with accuracy, bits and the time left; below it the privacy that was spent."""

    def __init__(self, rounds: int, done: int) -> None:
        self._console = Console()
        self._progress = Progress(
            TextColumn("round {task.completed}/{task.total}"),
            BarColumn(bar_width=16),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(compact=True),
            console=self._console,
        )
        self._task = self._progress.add_task("", total=rounds, completed=done, figures="")
        self._seen: dict[str, Any] = {}
        self._display = Display(get_renderable=self._drawn, console=self._console, transient=True)

    def __enter__(self) -> Self:
        self._display.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._display.stop()

    def say(self, sentence: str) -> None:
        """The sentence above the bar."""
        self._console.print(sentence, highlight=False, markup=False)

    def warn(self, sentence: str) -> None:
        """The sentence above the bar."""
        self.say(sentence)

    def round(self, row: dict[str, Any]) -> None:
        """Move the bar."""
        self._seen = _latest(self._seen, row)
        self._progress.update(self._task, completed=row["round"] + 1, figures=_figures(self._seen))

    def _drawn(self) -> Group:
        return Group(self._progress, Text(_spent(self._seen)))


def _latest(seen: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    return seen | {key: value for key, value in row.items() if value is not None}


def _figures(row: dict[str, Any]) -> str:
    parts = []
    if "accuracy" in row:
        parts.append(f"accuracy {100 * row['accuracy']:.1f} %")
    if row.get("senders"):
        parts.append(f"{row['bits_up'] / row['senders'] / 8000:.1f} kB up")
    return "  ".join(parts)


def _spent(row: dict[str, Any]) -> str:
    return statement.spent(row) if "epsilon" in row else ""
