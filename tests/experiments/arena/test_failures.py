"""Runs of an arena that fail, or are not defined."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from fedsieve.experiments.arena import crew
from fedsieve.experiments.arena.cell import DONE, FAILED, UNDEFINED, AbandonedError, play
from fedsieve.experiments.arena.plan import Cell
from fedsieve.experiments.arena.run import arena
from fedsieve.experiments.pieces import dataset
from fedsieve.experiments.toml import ConfigError
from tests.experiments.arena.small_arenas import configs, noted, small

pytestmark = pytest.mark.usefixtures("undrawn")


def test_a_run_that_raises_says_why_and_others_go_on(file: Path) -> None:
    runs = configs(small(file))
    broken = runs[1][1].model_copy(update={"rounds": "many"})
    played = crew.Crew(1, runs[0][1])
    try:
        ended = dict(played.play([runs[0], (runs[1][0], broken), runs[2]], stopped=lambda: False))
    finally:
        played.close()
    states = [ended[cell].state for cell, _ in runs]
    assert states == [DONE, FAILED, DONE]
    assert "TypeError" in ended[runs[1][0]].reason


def test_a_process_that_is_killed_fails_its_run_and_is_replaced(file: Path, monkeypatch) -> None:
    runs = configs(small(file))
    endless = runs[0][1].model_copy(update={"rounds": 10**7})
    played = crew.Crew(1, runs[0][1])
    (first,) = played.pids
    sent: list[int] = []
    send = played._send
    monkeypatch.setattr(played, "_send", lambda *told: (send(*told), sent.append(first)))

    def stopped() -> bool:  # asked after every answer
        if len(sent) == 1:
            os.kill(sent[0], signal.SIGKILL)
            sent.append(0)
        return False

    try:
        ended = dict(played.play([(runs[0][0], endless), runs[1]], stopped))
        assert played.pids != [first]
    finally:
        played.close()
    assert ended[runs[0][0]].state == FAILED
    assert "died of signal 9, which the system sends when memory runs out" in (
        ended[runs[0][0]].reason
    )
    assert ended[runs[1][0]].state == DONE


def test_a_run_that_nobody_wants_any_more_ends_within_a_round(file: Path) -> None:
    config = configs(small(file))[0][1]
    wanted = iter([True, True])
    with pytest.raises(AbandonedError):
        play(config, dataset(config), lambda: next(wanted, False))


def test_what_data_or_model_forbid_is_not_defined_and_told_in_the_users_words(file: Path) -> None:
    plan = small(file, "data.name=diabetes", "model.name=softmax")
    config = plan.config(Cell("mean", "label-flip", 1, 0))
    score = play(config, dataset(config))
    assert (score.state, score.quality) == (UNDEFINED, None)
    assert "data.name='diabetes' is a regression and has no classes to flip" in score.reason


def test_what_the_data_forbid_is_known_before_any_process_is_asked(
    file: Path, tmp_path: Path, monkeypatch
) -> None:
    played = noted(monkeypatch)
    flips = ["arena.attacks=['label-flip','foe']", "arena.seeds=[0,1]", "rounds=2"]
    outcome = arena(small(file, "data.name=diabetes", *flips), tmp_path / "arena")
    assert {cell.attack for cell in played} == {"none", "foe"}
    ((reason, places),) = outcome.board.unplayed().items()
    assert "data.name='diabetes' is a regression and has no classes to flip" in reason
    assert places == ["mean / label-flip / f=1"]


def test_a_base_that_cannot_be_run_is_refused_before_anything_is_written(
    file: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"algorithm\.batch=5000 exceeds"):
        arena(small(file, "algorithm.batch=5000"), tmp_path / "arena")
    assert not (tmp_path / "arena").exists()
