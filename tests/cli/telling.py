"""Which commands there are, what one left behind, and what bad input is answered with."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import typer

from fedsieve.cli import app

JOB = ("--noise-multiplier", "10", "--sampling-rate", "1", "--delta", "1e-5")
"""Options of ``fedsieve privacy``."""

SAID = ("unit: record", "one record added or removed", "delta = 1e-05", "no sampling", "exact")
"""What is said with the epsilon of `JOB`."""


class Told(SimpleNamespace):
    """What a command left behind."""

    code: int
    out: str
    err: str


def bad_input(told: Told) -> str:
    """The one line that answers bad input."""
    assert told.code == 2
    assert told.out == ""
    assert told.err.startswith("error: ")
    assert told.err.count("\n") == 1
    return told.err


def every_command() -> set[tuple[str, ...]]:
    """The words of every command and of every group of commands."""
    found: set[tuple[str, ...]] = set()

    def walk(command: Any, words: tuple[str, ...]) -> None:
        found.add(words)
        for name, inner in getattr(command, "commands", {}).items():
            walk(inner, (*words, name))

    walk(typer.main.get_command(app), ())
    return found
