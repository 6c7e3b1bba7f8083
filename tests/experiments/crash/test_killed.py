"""Runs that are killed end as if nothing had happened, and forget no message."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fedsieve
from fedsieve.experiments import run as running
from fedsieve.experiments import toml
from tests.experiments.crash.deaths import (
    ENTROPY,
    FRESH,
    LIMITED,
    LONG,
    POINTS,
    ROUNDS,
    as_if_nothing_had_happened,
    settings,
    undrawn,
)


@pytest.mark.parametrize("title", POINTS)
def test_a_run_killed_at_any_point_ends_as_if_nothing_had_happened(
    corpse: Callable[[str], Path], whole: Callable[..., Path], title: str
) -> None:
    directory = corpse(title)
    unfinished = [p.name for p in directory.rglob("*.unfinished")]
    assert unfinished == (["round-000004.unfinished"] if "is written" in title else [])
    if title == "before its report":
        assert (directory / "summary.json").is_file()
        fedsieve.resume(directory)
        assert (directory / "report.html").stat().st_size > 10_000
    else:
        assert not (directory / "summary.json").exists()
    with undrawn():
        result = fedsieve.resume(directory)
        assert result.summary["rounds"] == ROUNDS
        assert result.summary["noise_source"] == "simulation seed 3"
        (directory / "report.html").touch()
        (whole() / "report.html").touch()
        assert as_if_nothing_had_happened(directory, whole())
    assert not list(directory.rglob("*.unfinished"))


def test_a_run_killed_three_times_in_a_row_ends_as_if_nothing_had_happened(
    corpse: Callable[[str], Path], whole: Callable[..., Path]
) -> None:
    directory = corpse("three times in a row")
    with undrawn():
        fedsieve.resume(directory)
        assert as_if_nothing_had_happened(directory, whole(**LONG))


def test_a_torn_line_of_the_journal_is_made_good_when_its_round_is_repeated(
    corpse: Callable[[str], Path], whole: Callable[..., Path]
) -> None:
    directory = corpse("between two checkpoints")
    with (directory / running.JOURNAL).open("a") as journal:
        journal.write('{"round": 7, "noi')
    with undrawn():
        fedsieve.resume(directory)
        assert as_if_nothing_had_happened(directory, whole())


@pytest.mark.parametrize(("every", "rounds"), [(5, [0, 5, 10]), (4, [0, 4, 8, 10]), (0, [])])
def test_no_round_is_saved_twice(
    place: Path, tmp_path: Path, saved_rounds: list[int], every: int, rounds: list[int]
) -> None:
    with undrawn():
        fedsieve.run(settings(place, checkpoint={"every": every}), tmp_path / "run")
    assert saved_rounds == rounds


@pytest.mark.parametrize(
    ("title", "rounds"), [("before its first release", [4, 8, 10]), ("before its summary", [])]
)
def test_a_round_that_is_saved_is_not_saved_again_by_those_who_resume(
    corpse: Callable[[str], Path], saved_rounds: list[int], title: str, rounds: list[int]
) -> None:
    with undrawn():
        fedsieve.resume(corpse(title))
    assert saved_rounds == rounds


# ----------------------------------------------------- noise that nobody can draw a second time


def test_rounds_that_run_again_with_fresh_noise_count_twice(
    corpse: Callable[[str], Path], whole: Callable[..., Path]
) -> None:
    """The run died in round 7, after its charge, and goes on from its checkpoint after round 4."""
    with undrawn():
        result = fedsieve.resume(corpse("entropy"))
    undisturbed = json.loads((whole(**ENTROPY) / "summary.json").read_text())
    assert result.summary["noise_source"] == FRESH
    assert result.summary["rounds"] == ROUNDS
    assert result.summary["epsilon"] > 1.05 * undisturbed["epsilon"]
    journal = (result.directory / running.JOURNAL).read_text()
    rounds = [json.loads(line)["round"] for line in journal.splitlines()]
    assert rounds == [0, 1, 2, 3, 4, 5, 6, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("style", ["plain", "quiet", "json"])
def test_a_run_with_a_limit_stops_early_and_says_so(
    corpse: Callable[[str], Path],
    whole: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    style: Any,
) -> None:
    directory = corpse("limited")
    with undrawn():
        result = fedsieve.resume(directory, progress=style)
        undisturbed = json.loads((whole(**LIMITED) / "summary.json").read_text())
    out, err = capsys.readouterr()
    told = out if style == "plain" else err  # on standard error, what nobody may miss
    rounds = result.summary["rounds"]
    assert 4 < rounds < ROUNDS
    assert f"stopped after {rounds} of {ROUNDS} rounds: client" in told
    assert "more than limit=4; nothing was released" in told
    assert undisturbed["epsilon"] <= result.summary["epsilon"] <= 4.0
    # the last row is that of the model which the run ends with, evaluated out of turn
    last = result.metrics.to_pylist()[-1]
    assert (last["round"], last["accuracy"]) == (rounds - 1, result.summary["test_accuracy"])
    assert last["epsilon"] == result.summary["epsilon"]
    with undrawn():
        again = fedsieve.resume(directory)  # it is finished, not interrupted
    assert again.summary == result.summary


def test_messages_that_were_sent_are_never_forgotten(
    corpse: Callable[[str], Path], place: Path
) -> None:
    """A run without checkpoints that died: its journal is all that tells of what it released."""
    directory = corpse("without checkpoints")
    journal = (directory / running.JOURNAL).read_text()
    assert len(journal.splitlines()) == 7
    assert not any((directory / "checkpoints").iterdir())
    with pytest.raises(toml.ConfigError, match=r"ledger\.jsonl tells of messages.*another --out"):
        fedsieve.run(settings(place), directory)
    assert (directory / running.JOURNAL).read_text() == journal
    with undrawn():
        fedsieve.resume(directory)
    again = (directory / running.JOURNAL).read_text().splitlines()
    assert [json.loads(line)["round"] for line in again] == [*range(7), *range(ROUNDS)]
