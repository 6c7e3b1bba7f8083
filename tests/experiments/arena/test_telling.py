"""What an arena tells while it plays."""

from __future__ import annotations

import re

import pytest

from fedsieve.experiments.arena import telling
from fedsieve.experiments.arena.cell import DONE, FAILED, Score
from fedsieve.experiments.arena.plan import Cell, load
from fedsieve.experiments.arena.run import arena

CELLS = [Cell("caf", attack, 1, 0) for attack in ("none", "alie", "foe", "mimic")]
GOOD, BAD = Score(DONE, summary={"test_accuracy": 0.5}), Score(FAILED, "why")


def test_plain_lines_tell_the_first_the_last_and_every_failure(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with telling.teller("plain", runs=5, done=1) as told:
        for cell, score in zip(CELLS, (GOOD, GOOD, BAD, GOOD), strict=True):
            told.cell(cell, score)
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines() == [
        "run 2/5  caf / none: 0.500",
        "run 4/5  caf / foe: failed",
        "run 5/5  caf / mimic: 0.500",
    ]


def test_on_a_terminal_sentences_stand_above_a_bar_that_leaves_nothing_behind(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    with telling.teller("auto", runs=2) as told:
        told.say("2 rules")
        told.warn("slow")
        told.cell(CELLS[0], GOOD)
        told.cell(CELLS[1], BAD)
    out, err = capsys.readouterr()
    drawn = [line.strip() for line in re.split(r"[\n\r]|\x1b\[[\d;?]*[A-Za-z]", out)]
    assert err == ""
    assert drawn.count("2 rules") == drawn.count("slow") == 1
    assert any("2/2" in line for line in drawn)
    assert max(map(len, drawn)) <= 80
    assert out.endswith("\x1b[2K")  # the line of the bar is wiped


def test_one_of_a_thing_is_told_as_one(
    capsys: pytest.CaptureFixture[str], tmp_path, undrawn: None
) -> None:
    plan = load(
        None,
        [
            "rounds=1",
            "data.name=digits",
            "federation.clients=3",
            "arena.rules=mean",
            "arena.attacks=foe",
            "arena.byzantine=1",
            "arena.workers=1",
        ],
    )
    arena(plan, tmp_path / "arena", progress="plain")
    told = capsys.readouterr().out
    assert "\n1 rule, 1 attack and none, f=1 of n=3, 1 seed: 2 runs to play, 1 at a time\n" in told


def test_another_style_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="progress='loud' is not one of auto, plain, quiet, json"):
        arena(load(None, ["data.name=digits"]), tmp_path / "arena", progress="loud")
    assert list(tmp_path.iterdir()) == []
