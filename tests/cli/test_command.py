"""The command: its help, its errors, and the code with which it ends."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from fedsieve._version import __version__
from tests.cli.telling import Told, bad_input, every_command


def test_help_loads_nothing_heavy_and_has_no_colours() -> None:
    program = (
        "import sys; from fedsieve.cli import main; code = main(['--help']);"
        "heavy = {'torch', 'numpy', 'pydantic', 'matplotlib', 'pyarrow'} & set(sys.modules);"
        "print(sorted(heavy), file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "[]"
    assert "\x1b" not in done.stdout
    for command in (
        "run",
        "resume",
        "arena",
        "reproduce",
        "list",
        "show",
        "report",
        "data",
        "privacy",
        "init",
    ):
        assert f"\n  {command} " in done.stdout


@pytest.mark.parametrize("words", [(), ("data",), ("privacy",), ("run", "--help")])
def test_help(call: Callable[..., Told], words: tuple[str, ...]) -> None:
    told = call(*words)
    assert told.code == 0
    assert told.out.startswith("Usage: fedsieve")
    assert max(map(len, told.out.splitlines())) <= 80


@pytest.mark.parametrize("words", sorted(every_command()), ids=" ".join)
def test_every_help_fits_80_columns(call: Callable[..., Told], words: tuple[str, ...]) -> None:
    told = call(*words, "--help")
    assert told.code == 0
    assert max(map(len, told.out.splitlines())) <= 80
    for example in re.findall(r"Example: (.*)\n(.*)", told.out):
        assert not example[1].strip(), "an example is a line that can be copied whole"


@pytest.mark.parametrize("words", [(), ("data",), ("privacy",)])
def test_no_summary_of_a_command_is_cut(call: Callable[..., Told], words: tuple[str, ...]) -> None:
    assert "..." not in call(*words).out.split("Commands:")[1]


def test_the_arena_counts_its_rules_and_attacks(call: Callable[..., Told]) -> None:
    from fedsieve.experiments.arena import plan

    ours = plan.load()
    counted = f"{len(ours.setup.arena.rules)} rules, {len(ours.attacks)} attacks"
    assert counted in " ".join(call("arena", "--help").out.split())


def test_version(call: Callable[..., Told]) -> None:
    assert call("version").out == f"fedsieve {__version__}\n"


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("lisst",), "No such command 'lisst'"),
        (("run", "--bogus"), "No such option: --bogus"),
        (("run", "missing.toml"), "missing.toml"),
        (("run", "--set", "rounds=0"), "rounds=0: allowed is greater than or equal to 1"),
        (("run", "--set", "round=3"), "unknown key round=3; did you mean rounds?"),
        (("run", "--out", "taken/run"), "taken/run cannot be written: taken: Not a directory"),
        (("run", "--set", "attack.name=aly"), "no attack is called 'aly'"),
        (("list", "rules"), "family='rules' is not one of algorithm, attack, "),
        (("show", "nowhere"), "nowhere holds no run"),
        (("resume", "nowhere"), "nowhere holds no run"),
        (("report", "nowhere"), "nowhere holds no run"),
        (("report",), "Missing argument"),
        (("data", "fetch", "nothing"), "no dataset is called 'nothing'"),
        (("data", "fetch", "digits"), "digits needs no download"),
        (("data", "verify", "nothing"), "no dataset is called 'nothing'"),
    ],
)
def test_bad_input_gets_one_line(
    call: Callable[..., Told], words: tuple[str, ...], part: str, tmp_path: Path
) -> None:
    (tmp_path / "taken").touch()
    assert part in bad_input(call(*words))


def test_our_own_errors_are_a_line_and_bugs_a_trace(
    call: Callable[..., Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fedsieve.privacy import BudgetExceededError

    def fail(problem: Exception) -> None:
        def run(*_: object, **__: object) -> None:
            raise problem

        monkeypatch.setitem(sys.modules, "fedsieve.experiments.run", SimpleNamespace(run=run))

    fail(BudgetExceededError("client 3 is spent"))
    told = call("run", "--out", "there")
    assert (told.code, told.err) == (1, "error: client 3 is spent\n")
    fail(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        call("run", "--out", "there")


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fedsieve", "version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"fedsieve {__version__}\n"


def test_a_process_that_ends_collects_no_garbage() -> None:
    """Else the last second of every command would be spent on what torch has left."""
    program = (
        "import atexit, gc, sys; from fedsieve.cli import main;"
        "atexit.register(lambda: print(gc.get_freeze_count() > 0));"  # the last of the handlers
        "sys.argv = ['fedsieve', 'version']; sys.exit(main())"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert told.stdout.splitlines()[1:] == ["True"]
