"""How work in progress is told: not at all, in JSON, in plain lines, above a bar.

What is told, rounds of a run or runs of an arena, `progress` and `arena.telling` add.
"""

from __future__ import annotations

import json
import math
import sys
import time
from typing import Any, Literal, Protocol, Self, get_args

from rich.console import Console
from rich.live import Live
from rich.progress import Progress

Style = Literal["auto", "plain", "quiet", "json"]
"""``auto``: live on a terminal, else plain; ``json``: one JSON object per result."""

EVERY = 10.0  # seconds between two plain lines


def require_style(style: str) -> None:
    """Refuse what is no style.

    Raises:
        ValueError: With those there are.
    """
    if style not in (styles := get_args(Style)):
        raise ValueError(f"progress={style!r} is not one of {', '.join(styles)}")


class Voice(Protocol):
    """Tells sentences; a context manager around what it tells of."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def say(self, sentence: str) -> None:
        """Tell one sentence."""
        ...

    def warn(self, sentence: str) -> None:
        """Tell one sentence that nobody may miss, however little he wants to be told."""
        ...


class Silence:
    """Tells nothing but warnings, on standard error."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def say(self, sentence: str) -> None:
        """Nothing."""

    def warn(self, sentence: str) -> None:
        """The sentence on a line of standard error."""
        _to_standard_error(sentence)


class Objects(Silence):
    """One JSON object a line on standard error; the result has standard output."""

    def warn(self, sentence: str) -> None:
        """The sentence under the key "warning"."""
        self.tell({"warning": sentence})

    def tell(self, entry: dict[str, Any]) -> None:
        """The object on a line; a number that JSON does not have is null, as in a summary."""
        plain = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in entry.items()
        }
        _to_standard_error(json.dumps(plain, allow_nan=False))


class Lines(Silence):
    """Plain lines, the last one of ``total`` results and at most one in ten seconds before."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._console = Console(soft_wrap=True, markup=False, highlight=False)
        self._told = -EVERY

    def say(self, sentence: str) -> None:
        """The sentence on a line."""
        self._console.print(sentence)

    def warn(self, sentence: str) -> None:
        """The sentence on a line."""
        self.say(sentence)

    def is_due(self, done: int) -> bool:
        """Whether it is time for a line, of so many results; the caller then tells it."""
        now = time.monotonic()
        if now - self._told < EVERY and done < self.total:
            return False
        self._told = now
        return True


class AboveBar:
    """Sentences above a display that changes in place, and that leaves nothing behind."""

    def __init__(self, console: Console, display: Live | Progress) -> None:
        self._console = console
        self._display = display

    def __enter__(self) -> Self:
        self._display.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._display.stop()

    def say(self, sentence: str) -> None:
        """The sentence above the bar."""
        self._console.print(sentence, highlight=False, markup=False)

    def warn(self, sentence: str) -> None:
        """The sentence above the bar."""
        self.say(sentence)


def _to_standard_error(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
