"""The ``fedsieve`` command.

Exit codes: 0 done, 1 failed, 2 bad input. Bad input is answered by one line on the standard error.
Nothing heavy is imported here: every command imports what it needs when it is called, so that help
and completion are immediate.
"""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Sequence

import typer

from fedsieve.cli import arena as _arena
from fedsieve.cli import data as _data
from fedsieve.cli import demo as _demo
from fedsieve.cli import look as _look
from fedsieve.cli import papers as _papers
from fedsieve.cli import privacy as _privacy
from fedsieve.cli import train as _train
from fedsieve.cli._text import help_without_command as _help_without_command
from fedsieve.registry import UnknownComponentError

__all__ = ["app", "main"]

app = typer.Typer(
    name="fedsieve",
    help="Federated learning that is private, robust and cheap at once.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    invoke_without_command=True,
    callback=_help_without_command,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("demo", short_help="Compare four ways of training under attack.")(_demo.demo)
app.command("run")(_train.run)
app.command("resume")(_train.resume)
app.command("arena", short_help="Play every rule against every attack.")(_arena.arena)
app.command("reproduce")(_papers.reproduce)
app.command("list")(_look.list_)
app.command("show")(_look.show)
app.command("report")(_look.report)
app.add_typer(_data.app, name="data")
app.add_typer(
    _privacy.app, name="privacy", short_help="Convert between noise, rounds and epsilon; explain."
)
app.command("schema")(_look.schema)
app.command("init")(_look.init)
app.command("version")(_look.version)

_usage_error = typer.BadParameter.__mro__[1]
"""UsageError, which typer does not export; its base is the error of all that can be shown."""

_shown_error = _usage_error.__mro__[1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The words after ``fedsieve``; ``None`` takes those of the process.

    Returns:
        The exit code.
    """
    if arguments is None:
        # the process ends with this command: what torch and its like left in cycles, a second's
        # work to collect, need not be looked through once more
        atexit.register(gc.freeze)
    words = None if arguments is None else list(arguments)
    try:
        return int(app(args=words, prog_name="fedsieve", standalone_mode=False) or 0)
    except (typer.Abort, KeyboardInterrupt):
        return _failed("interrupted", 1)
    except OSError as error:  # a full disk, a directory that may not be written
        return _failed(f"{error.filename or 'system'}: {error.strerror or error}", 1)
    except Exception as error:
        if isinstance(error, _shown_error):
            return _failed(error.format_message(), error.exit_code)  # type: ignore[attr-defined]
        # Our own errors say in one sentence what is wrong; any other is a bug and shows its trace.
        if not type(error).__module__.startswith("fedsieve."):
            raise
        return _failed(str(error), 2 if _is_bad_input(error) else 1)


def _is_bad_input(error: Exception) -> bool:
    from fedsieve.experiments.toml import ConfigError

    return isinstance(error, ConfigError | UnknownComponentError)


def _failed(message: str, code: int) -> int:
    """One line on the standard error."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)  # noqa: T201
    return code
