"""Arenas that were played, in whole and in part."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fedsieve.cli import main
from fedsieve.experiments.arena import page
from fedsieve.experiments.arena.plan import load
from fedsieve.experiments.arena.run import arena
from tests.experiments.arena.small_arenas import FILE, TABLE, TWO


@pytest.fixture(scope="session")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("arena") / "plan.toml"
    path.write_text(FILE)
    return path


@pytest.fixture(scope="session")
def whole(file: Path) -> Path:
    """The directory of an arena that nobody disturbed."""
    directory = file.parent / "whole"
    arena(load(file, [TWO]), directory)
    return directory


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take longer than everything else together; those of `whole` are enough."""
    monkeypatch.setattr(page, "draw", lambda _: None)


@pytest.fixture
def half(whole: Path, tmp_path: Path) -> Path:
    """An arena of which some runs are missing and one is torn."""
    directory = tmp_path / "half"
    shutil.copytree(whole, directory)
    for number, path in enumerate(sorted((directory / "cells").iterdir())):
        if number == 1:
            path.write_text(path.read_text()[:40])
        elif number % 2:
            path.unlink()
    for name in TABLE:
        (directory / name).unlink()
    return directory


@pytest.fixture
def call(capsys, monkeypatch, tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def run(*words: object) -> tuple[int, str, str]:
        code = main(["arena", *map(str, words)])
        return (code, *capsys.readouterr())

    return run
