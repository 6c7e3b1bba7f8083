"""`fedsieve run` and `resume`, without training."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fedsieve.experiments import toml
from tests.cli.telling import Told, bad_input


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a place that nobody can write")
def test_a_place_that_cannot_be_written_is_found_before_the_work(
    call: Callable[..., Told], trainer: list[dict[str, Any]]
) -> None:
    told = bad_input(call("run", "--out", "/proc/nowhere/run"))
    assert "/proc/nowhere/run cannot be written: /proc: " in told
    assert trainer == []


def test_a_finished_run_is_not_overwritten(
    call: Callable[..., Told], invented: Callable[..., Path], tmp_path: Path
) -> None:
    path = invented(tmp_path / "run", rounds=2)
    assert "finished run; choose another --out" in bad_input(call("run", "--out", str(path)))


def test_run_passes_on_what_it_was_told(
    call: Callable[..., Told], trainer: list[dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "run.toml").write_text("rounds = 3\n")
    told = call("run", "run.toml", "--set", "seed=7", "--out", "there", "--data-dir", "my data")
    assert told.code == 0
    (noted,) = trainer
    assert (noted["config"].rounds, noted["config"].seed) == (3, 7)
    assert noted["config"].data.dir == "my data"
    assert (noted["directory"], noted["progress"]) == (Path("there"), "auto")
    assert "84.0%" in told.out
    assert "there/report.html" in told.out


def test_run_names_its_directory_and_takes_no_other(
    call: Callable[..., Told], trainer: list[dict[str, Any]], tmp_path: Path
) -> None:
    call("run")
    (tmp_path / "runs" / "sieve-fashion-mnist-alie-seed0").mkdir(parents=True)
    call("run", "--quiet")
    call("run", "--set", "name=../up & away")
    directories = [str(noted["directory"]) for noted in trainer]
    assert directories == [
        "runs/sieve-fashion-mnist-alie-seed0",
        "runs/sieve-fashion-mnist-alie-seed0-2",
        "runs/up-away",
    ]


def test_run_as_json_prints_the_summary_and_nothing_else(
    call: Callable[..., Told], trainer: list[dict[str, Any]]
) -> None:
    told = call("run", "--json", "--out", "there")
    assert json.loads(told.out)["test_accuracy"] == 0.84
    assert trainer[0]["progress"] == "json"


def test_quiet_is_quiet(call: Callable[..., Told], trainer: list[dict[str, Any]]) -> None:
    told = call("run", "--quiet", "--out", "there")
    assert (told.code, told.out, told.err) == (0, "", "")
    assert trainer[0]["progress"] == "quiet"
    assert call("resume", "there", "--quiet").code == 0
    assert trainer[1]["directory"] == Path("there")


@pytest.mark.parametrize(
    ("problem", "code", "line"),
    [
        (KeyboardInterrupt(), 1, "stopped; go on with: fedsieve resume 'over there'\n"),
        (toml.ConfigError("k=3 is\ntoo many"), 2, "error: k=3 is too many\n"),
    ],
)
def test_how_a_run_ends_early(
    call: Callable[..., Told],
    monkeypatch: pytest.MonkeyPatch,
    problem: BaseException,
    code: int,
    line: str,
) -> None:
    def run(config: object, directory: Path, **_: object) -> None:
        directory.mkdir()
        (directory / "config.toml").touch()
        raise problem

    monkeypatch.setitem(sys.modules, "fedsieve.experiments.run", SimpleNamespace(run=run))
    told = call("run", "--out", "over there")
    assert (told.code, told.err) == (code, line)


def test_a_run_that_is_stopped_before_it_began_cannot_be_resumed(
    call: Callable[..., Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "fedsieve.experiments.run", SimpleNamespace(run=run))
    told = call("run", "--out", "there")
    assert (told.code, told.err) == (1, "stopped before the first round\n")
