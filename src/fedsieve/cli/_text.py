"""Plain text for people: aligned rows that fit the terminal, and nothing a pipe would choke on."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable

import typer


def width() -> int:
    """Columns to write: those of the terminal, 80 where there is none."""
    return min(max(shutil.get_terminal_size((80, 24)).columns, 40), 120)


def pairs(rows: Iterable[tuple[str, str]], indent: int = 0) -> str:
    """Names on the left, their values wrapped on the right.

    Example:
        >>> print(pairs([("rule", "caf"), ("rounds", "150")]))
        rule    caf
        rounds  150
    """
    held = list(rows)
    left = max((len(name) for name, _ in held), default=0) + 2
    lines = []
    for name, value in held:
        first = f"{'':{indent}}{name:<{left}}"
        lines.append(filled(value, first, " " * (indent + left)) or first.rstrip())
    return "\n".join(lines)


def filled(text: str, first: str = "", others: str = "") -> str:
    """A paragraph in lines that fit; names and paths stay whole, to be copied."""
    return textwrap.fill(
        text,
        width(),
        initial_indent=first,
        subsequent_indent=others,
        break_on_hyphens=False,
        break_long_words=False,
    )


def count(number: int, what: str) -> str:
    """A number of things.

    Example:
        >>> count(1, "round"), count(2, "round")
        ('1 round', '2 rounds')
    """
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def say(text: str) -> None:
    """Print a result."""
    typer.echo(text)


def note(text: str) -> None:
    """Tell the user something that is not the result."""
    typer.echo(text, err=True)


def help_without_command(context: typer.Context) -> None:
    """Print the help of a command group that is called without a command."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
