"""Arenas that were stopped, and what may be gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedsieve.experiments.arena.archive import Archive
from fedsieve.experiments.arena.plan import load
from fedsieve.experiments.arena.run import arena
from fedsieve.experiments.run import run
from fedsieve.experiments.toml import ConfigError
from tests.experiments.arena.small_arenas import TWO, cells, left, noted

pytestmark = pytest.mark.usefixtures("undrawn")


def test_only_what_is_missing_is_played(file: Path, whole: Path, half: Path, monkeypatch) -> None:
    played = noted(monkeypatch)
    missing = {cell for number, cell in enumerate(sorted(cells(whole))) if number % 2}
    arena(load(file), half)
    assert {cell.key for cell in played} == missing
    assert left(half) == left(whole)


def test_another_plan_or_another_place_is_refused(file: Path, half: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"rounds was 12, is now 13; choose another --out"):
        arena(load(file, ["rounds=13"]), half)
    with pytest.raises(ConfigError, match=r"arena\.rules was .* is now \[\"mean\"\]"):
        arena(load(file, ["arena.rules=mean"]), half)
    run({"rounds": 1, "data": {"name": "digits"}, "model": {"name": "softmax"}}, tmp_path / "run")
    with pytest.raises(ConfigError, match="holds a finished run"):
        arena(load(file), tmp_path / "run")


def test_an_arena_that_is_stopped_while_it_loads_knows_its_plan(
    call, file: Path, tmp_path: Path, monkeypatch
) -> None:
    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "arena"
    few = ["--set", "rounds=3", "--set", "arena.rules=mean", "--set", "arena.byzantine=1"]
    with monkeypatch.context() as patch:
        patch.setattr("fedsieve.experiments.arena.run.build", stopped)
        code, _, err = call(file, *few, "--out", out)
    assert (code, err) == (1, f"stopped; go on with: fedsieve arena --out {out}\n")
    assert Archive(out).plan() == load(file, few[1::2])
    code, told, err = call("--out", out)
    assert (code, err) == (0, "")
    assert f"going on with the arena in {out}: softmax on digits" in told
    assert len(cells(out)) == 3


def test_without_a_file_only_an_arena_is_gone_on_with(call, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    code, out, err = call("--out", "empty")
    assert (code, out) == (2, "")
    assert err.startswith("error: empty holds no arena to go on with: there is no arena.toml in it")
    assert list((tmp_path / "empty").iterdir()) == []


def test_other_data_is_refused(file: Path, half: Path) -> None:
    manifest = json.loads((half / "manifest.json").read_text())
    manifest["data"]["checksums"] = {"digits": "0" * 64}
    (half / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ConfigError, match="was started with data"):
        arena(load(file), half)


def test_two_arenas_do_not_share_a_directory(file: Path, half: Path) -> None:
    with Archive(half).alone(), pytest.raises(ConfigError, match="in use by another process"):
        arena(load(file), half)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="process groups are read in /proc")
def test_ctrl_c_and_kill_9_lose_only_what_is_under_way_and_leave_no_orphan(
    command: Callable[..., subprocess.Popen[str]],
    until: Callable[..., bool],
    group: Callable[[int], list[int]],
    file: Path,
    tmp_path: Path,
) -> None:
    slow = ["--set", "rounds=150", "--set", "arena.byzantine=1"]
    plan = load(file, slow[1::2])
    directory = tmp_path / "arena"

    interrupted = command("arena", file, *slow, "--set", TWO, "--out", directory)
    assert until(lambda: len(cells(directory)) >= 1)
    os.killpg(interrupted.pid, signal.SIGINT)  # a terminal tells all of them
    _, err = interrupted.communicate(timeout=60)
    assert interrupted.returncode == 1
    assert err == f"stopped; go on with: fedsieve arena --out {directory}\n"
    assert until(lambda: not group(interrupted.pid))
    kept = {name: (directory / "cells" / f"{name}.json").read_bytes() for name in cells(directory)}
    assert 1 <= len(kept) < len(list(plan.cells()))

    killed = command("arena", "--out", directory, "--quiet")  # the directory knows its plan
    assert until(lambda: len(cells(directory)) > len(kept))
    os.kill(killed.pid, signal.SIGKILL)  # nobody tells the workers
    assert killed.wait(timeout=60) == -signal.SIGKILL
    assert until(lambda: not group(killed.pid))
    assert not (directory / "arena.md").exists()

    arena(plan, directory)
    for name, content in kept.items():
        assert (directory / "cells" / f"{name}.json").read_bytes() == content
    arena(plan, tmp_path / "undisturbed")
    assert left(directory) == left(tmp_path / "undisturbed")
