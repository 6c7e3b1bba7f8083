"""What a run tells while it goes on."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

import fedsieve
from fedsieve.cli import main
from fedsieve.experiments import readable
from fedsieve.experiments.recorded import Run
from fedsieve.experiments.report import report
from fedsieve.experiments.run_directory import RunDirectory
from fedsieve.learning.data import Dataset
from fedsieve.learning.datasets import from_arrays
from tests.experiments.small_runs import PRIVATE, settings

TERMS = "(delta 1e-05, record, add-remove, Poisson sampling, PLD)"


@pytest.fixture
def told(
    own: Dataset, capsys: pytest.CaptureFixture[str]
) -> Callable[[Any], tuple[list[str], list[str]]]:
    """The lines on standard output and standard error of a private run in a style."""

    def run(style: Any) -> tuple[list[str], list[str]]:
        fedsieve.run(settings(privacy=PRIVATE), data=own, progress=style)
        out, err = capsys.readouterr()
        return out.splitlines(), err.splitlines()

    return run


@pytest.mark.parametrize("style", ["plain", "auto"])
def test_plain_lines(told: Callable[[Any], tuple[list[str], list[str]]], style: str) -> None:
    out, err = told(style)
    assert err == []
    assert out[0].startswith("own: 180 training and 60 test examples from arrays of the caller")
    assert out[1].startswith("round 1/6  ")
    assert out[-1].startswith("round 6/6  accuracy ")
    assert out[-1].endswith(TERMS)
    assert re.search(r"  epsilon [\d.]+ \(", out[-1])
    assert " kB up" in out[-1]
    assert len(out) == 3
    assert "\x1b" not in "".join(out)


def test_json_lines_on_standard_error(
    told: Callable[[Any], tuple[list[str], list[str]]],
) -> None:
    out, err = told("json")
    assert out == []
    rounds = [json.loads(line) for line in err]
    assert [one["round"] for one in rounds] == [1, 3, 5]
    terms = {
        "delta": 1e-5,
        "privacy_unit": "record",
        "neighbouring_relation": "add-remove",
        "sampling": "Poisson",
        "accountant": "PLD (dp-accounting, pessimistic)",
    }
    for one in rounds:
        assert set(one) == {"round", "accuracy", "loss", "epsilon", "bits_up", *terms}
        assert one | terms == one


def test_another_style_is_refused_before_anything_is_written(own: Dataset, tmp_path: Path):
    loud: Any = "loud"
    with pytest.raises(ValueError, match=r"progress='loud' is not one of auto, plain, quiet"):
        fedsieve.run(settings(), tmp_path / "run", data=own, progress=loud)
    assert list(tmp_path.iterdir()) == []


def test_quiet_is_silent(told: Callable[[Any], tuple[list[str], list[str]]]) -> None:
    assert told("quiet") == ([], [])


def test_on_a_terminal_the_sentence_is_told_once_and_the_bar_leaves_nothing_behind(
    told: Callable[[Any], tuple[list[str], list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    out, err = told("auto")
    text = "\n".join(out)
    assert text.count("180 training and 60 test examples") == 1
    assert err == []
    assert "6/6" in text
    drawn = [line for line in re.split(r"[\n\r]|\x1b\[[\d;?]*[A-Za-z]", text) if "epsilon" in line]
    assert drawn
    assert all(TERMS in line and len(line) <= 80 for line in drawn)


def test_rounds_that_were_skipped_are_told(own: Dataset, capsys: pytest.CaptureFixture[str]):
    result = fedsieve.run(
        settings(
            federation={"clients": 6, "byzantine": 1, "dropout": 0.7},
            aggregation={"rule": "trimmed-mean"},
            rounds=20,
        ),
        data=own,
    )
    skipped = sum(result.metrics.column("skipped").to_pylist())
    assert 0 < skipped < 20
    assert f"{skipped} of 20 rounds left the model as it was" in capsys.readouterr().err


def test_divergence_is_told(capsys: pytest.CaptureFixture[str]):
    hasty = {"name": "dshb", "lr": 1e30, "batch": 10}
    fedsieve.run(settings(data={"name": "diabetes"}, algorithm=hasty))
    assert "training diverged" in capsys.readouterr().err


def test_json_lines_of_a_run_that_diverges_are_json(capsys: pytest.CaptureFixture[str]):
    hasty = {"name": "dshb", "lr": 1e30, "batch": 10}
    fedsieve.run(settings(data={"name": "diabetes"}, algorithm=hasty), progress="json")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    told = capsys.readouterr().err.splitlines()
    rounds = [json.loads(line, parse_constant=refuse) for line in told]
    assert any("loss" in one and one["loss"] is None for one in rounds)


@pytest.mark.usefixtures("undrawn")
def test_a_damaged_newest_checkpoint_is_told(
    own: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    fedsieve.run(settings(), tmp_path, data=own)
    (tmp_path / "summary.json").unlink()
    state = sorted((tmp_path / "checkpoints").iterdir())[-1] / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-1] + b"?")
    capsys.readouterr()
    fedsieve.resume(tmp_path, data=own)
    assert "is damaged; going on from round 3" in capsys.readouterr().err


def test_a_regression_is_never_said_to_be_accurate(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 2))
    y = 100.0 + x @ [1.0, 2.0]  # far from what so short a run learns
    data = from_arrays(x[:80], y[:80], x[80:], y[80:])
    there = tmp_path / "run"
    quick = settings(rounds=1, algorithm={"name": "fedavg", "lr": 0.001})
    result = fedsieve.run(quick, there, data=data, model=nn.Linear(2, 1), progress="plain")
    r2 = f"{result.summary['test_accuracy']:.3g}"
    assert float(r2) < -100
    assert f"round 1/1  R^2 {r2}  " in capsys.readouterr().out
    assert main(["show", str(there)]) == 0
    shown = capsys.readouterr().out
    assert re.search(rf"^test R\^2 +{re.escape(r2)}$", shown, re.M)
    page = (there / "report.html").read_text()
    both = report([there, there], tmp_path / "both.html").read_text()
    assert f">{r2}<" in page
    assert f">{r2}<" in both
    assert all("test R^2" in text for text in (page, both))
    assert not any("accuracy" in text for text in (shown, page, both))


def test_the_two_vectors_of_scaffold_are_told_apart(own: Dataset, tmp_path: Path) -> None:
    halved = {"name": "random-mask", "k": 25, "refresh": 0}
    quick = settings(rounds=1, algorithm={"name": "scaffold", "lr": 0.1}, projection=halved)
    fedsieve.run(quick, tmp_path, data=own)
    told = "2 vectors of 25 of 51 numbers"
    run = Run(RunDirectory(tmp_path))
    assert ("projection", f"random-mask, {told}") in readable.rows(run.summary, run.task, run.k)
    assert told in (tmp_path / "report.html").read_text()
