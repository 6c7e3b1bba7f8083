"""What a command left behind, and what bad input is answered with."""

from __future__ import annotations

from types import SimpleNamespace


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
