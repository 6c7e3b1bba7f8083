"""Damaged checkpoints give way to older ones."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import fedsieve
from fedsieve.cli import main
from fedsieve.simulation.checkpoint import CheckpointError
from tests.experiments.crash.deaths import (
    as_if_nothing_had_happened,
    last_checkpoint,
    undrawn,
)


def flip(folder: Path) -> None:
    file = folder / "state.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def shorten(folder: Path) -> None:
    file = folder / "state.safetensors"
    file.write_bytes(file.read_bytes()[:-10])


def garble(folder: Path) -> None:
    (folder / "manifest.json").write_text('["no", "manifest"]')


def empty(folder: Path) -> None:
    (folder / "manifest.json").write_text("")


def lose(folder: Path) -> None:
    (folder / "state.safetensors").unlink()


@pytest.mark.parametrize("damage", [flip, shorten, garble, empty, lose])
def test_a_damaged_checkpoint_gives_way_to_the_older_one(
    corpse: Callable[[str], Path], whole: Callable[..., Path], damage: Callable[[Path], None]
) -> None:
    directory = corpse("between two checkpoints")
    older, newest = sorted((directory / "checkpoints").iterdir())
    assert (older.name, newest.name) == ("round-000000", "round-000004")
    damage(newest)
    with undrawn():
        fedsieve.resume(directory)
        assert as_if_nothing_had_happened(directory, whole())


def test_nothing_but_damaged_checkpoints_is_an_error_that_names_the_newest(
    corpse: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    directory = corpse("between two checkpoints")
    for folder in (directory / "checkpoints").iterdir():
        flip(folder)
    with pytest.raises(CheckpointError, match=r"round-000004.*is damaged: sha256 is"):
        fedsieve.resume(directory)
    assert main(["resume", str(directory)]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: ")
    assert told.err.count("\n") == 1


@pytest.mark.parametrize("title", ["before its first release", "killed in its first rounds"])
def test_a_damaged_checkpoint_of_round_0_loses_nothing(
    corpse: Callable[[str], Path],
    whole: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    title: str,
) -> None:
    directory = corpse(title)
    assert last_checkpoint(directory) == "round-000000"
    flip(directory / "checkpoints" / "round-000000")
    with undrawn():
        fedsieve.resume(directory)
        told = capsys.readouterr().err
        assert re.search(r"round-000000.* is damaged: .*; starting over from round 0\n$", told)
        assert as_if_nothing_had_happened(directory, whole())
