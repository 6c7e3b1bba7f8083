"""Commands in an empty directory, and runs that nobody trained."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fedsieve.cli import main
from tests.cli.telling import Told
from tests.experiments.invented_runs import invent


@pytest.fixture
def call(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Told]:
    """Run a command in an empty directory, as on a terminal of 80 columns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FEDSIEVE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FEDSIEVE_DATA", raising=False)

    def run(*words: str) -> Told:
        code = main(words)
        return Told(code=code, **capsys.readouterr()._asdict())

    return run


@pytest.fixture
def privacy(call: Callable[..., Told]) -> Callable[..., Told]:
    """Run one of the commands of ``fedsieve privacy``."""
    return lambda *words: call("privacy", *words)


@pytest.fixture(scope="session")
def invented() -> Callable[..., Path]:
    """Makes up a run directory."""
    return invent


@pytest.fixture
def trainer(
    monkeypatch: pytest.MonkeyPatch, invented: Callable[..., Path], tmp_path: Path
) -> list[dict[str, Any]]:
    """Puts a trainer that only takes notes in the place of the real one."""
    from fedsieve.experiments import run_directory

    notes: list[dict[str, Any]] = []
    done = run_directory.RunDirectory(invented(tmp_path / "elsewhere", rounds=2))

    def run(config: object, directory: Path, *, progress: str) -> SimpleNamespace:
        notes.append({"config": config, "directory": directory, "progress": progress})
        return SimpleNamespace(summary=done.summary(), directory=directory, config=done.config())

    def resume(directory: Path, *, progress: str) -> SimpleNamespace:
        return run(None, directory, progress=progress)

    fake = SimpleNamespace(run=run, resume=resume)
    monkeypatch.setitem(sys.modules, "fedsieve.experiments.run", fake)
    return notes
