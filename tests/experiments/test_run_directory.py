"""Run directories: whole files or none, no work overwritten, metrics that survive."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import fedsieve
from fedsieve.experiments.config import Config
from fedsieve.experiments.files import atomically, write_text
from fedsieve.experiments.metrics import SCHEMA
from fedsieve.experiments.run_directory import JOURNAL, RunDirectory
from fedsieve.experiments.toml import ConfigError


def test_what_is_written_is_read_again(tmp_path: Path, invented: Callable[..., Path]) -> None:
    run = RunDirectory.open(invented(tmp_path / "run", rounds=7))
    assert run.finished
    assert run.config().rounds == 7
    assert run.manifest()["versions"]["python"].startswith("3.")
    assert {"torch", "numpy", "fedsieve"} <= set(run.manifest()["versions"])
    assert run.manifest()["data"]["checksums"] == {"train-images": "5b" * 32}
    assert run.manifest()["noise"]["grid"] in (None, 2.0**-20)
    assert np.array(run.partition()["counts"]).shape == (20, 10)
    assert run.metrics().schema.equals(SCHEMA)
    assert run.metrics().column("round").to_pylist() == list(range(7))
    assert run.metrics().column("accuracy").to_pylist()[0] is None
    weights = run.metrics().column("weights").to_pylist()[2]
    assert math.isnan(weights[2])
    assert sum(w for w in weights if not math.isnan(w)) < 1


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "summary.json"
    write_text(file, "old")

    def crash(path: Path) -> None:
        path.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        atomically(file, crash)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_files_are_readable_as_the_user_wants(tmp_path: Path) -> None:
    file = tmp_path / "new"
    write_text(file, "")
    plain = tmp_path / "plain"
    plain.touch()
    assert file.stat().st_mode == plain.stat().st_mode


def test_no_run_is_overwritten(tmp_path: Path, invented: Callable[..., Path]) -> None:
    finished = invented(tmp_path / "finished", rounds=2)
    with pytest.raises(ConfigError, match="finished run; choose another --out"):
        RunDirectory.create(finished, Config())
    halted = invented(tmp_path / "halted", rounds=2, finished=False)
    (halted / "checkpoints" / "round-1").mkdir()
    with pytest.raises(ConfigError, match=r"fedsieve resume .*halted"):
        RunDirectory.create(halted, Config())
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ConfigError, match="no directory"):
        RunDirectory.create(file, Config())


def test_a_path_with_blanks_can_be_copied_to_the_shell(
    tmp_path: Path, invented: Callable[..., Path]
) -> None:
    path = invented(tmp_path / "my run", rounds=2, finished=False)
    (path / "checkpoints" / "round-000001").mkdir()
    with pytest.raises(ConfigError, match=f"with: fedsieve resume '{path}'$"):
        RunDirectory(path).refuse_if_taken()
    (path / "checkpoints" / "round-000001").rmdir()
    (path / "ledger.jsonl").write_text("{}\n")
    with pytest.raises(ConfigError, match=f"with: fedsieve resume '{path}'$"):
        RunDirectory(path).refuse_if_taken()


def test_a_journal_is_not_written_over(tmp_path: Path, invented: Callable[..., Path]) -> None:
    path = invented(tmp_path / "run", rounds=2, finished=False)
    journal = path / JOURNAL
    journal.touch()  # opened, but nothing was sent
    RunDirectory.create(path, Config())
    journal.write_text('{"round": 0}\n')
    with pytest.raises(ConfigError, match=r"ledger\.jsonl tells of .*fedsieve resume .*run"):
        RunDirectory.create(path, Config())


def test_a_run_that_never_started_gives_way(tmp_path: Path, invented: Callable[..., Path]) -> None:
    path = invented(tmp_path / "run", rounds=2, finished=False)
    run = RunDirectory.create(path, Config())
    assert run.metrics().num_rows == 0
    assert run.config() == Config()
    assert not run.finished


def test_what_is_no_run(tmp_path: Path, invented: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match="holds no run"):
        RunDirectory.open(tmp_path)
    run = RunDirectory.open(invented(tmp_path / "run", rounds=2))
    (run.path / "summary.json").write_text("{")
    with pytest.raises(ConfigError, match=r"summary\.json is no JSON"):
        run.summary()
    (run.path / "metrics.parquet").write_bytes(b"no parquet")
    with pytest.raises(ConfigError, match=r"metrics\.parquet cannot be read"):
        run.metrics()


def test_a_directory_in_use_is_refused_to_others_and_free_afterwards(tmp_path):
    run = RunDirectory(tmp_path / "run")
    refused = pytest.raises(ConfigError, match="in use by another process")
    with run.alone(), refused, RunDirectory(tmp_path / "run").alone():
        pass
    with run.alone():
        pass


def test_a_run_that_is_running_is_not_resumed(tmp_path):
    config = {
        "data": {"name": "fashion-mnist-subset"},
        "rounds": 2,
        "checkpoint": {"every": 1},
        "model": {"name": "softmax"},
        "algorithm": {"name": "dshb"},
    }
    fedsieve.run(config, tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    with RunDirectory(tmp_path / "run").alone(), pytest.raises(ConfigError, match="in use"):
        fedsieve.resume(tmp_path / "run")
    assert fedsieve.resume(tmp_path / "run").summary["rounds"] == 2
