"""Playing an arena: processes, interruptions, failures, and the files that are left."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedsieve.cli import main
from fedsieve.experiments.arena import crew, page
from fedsieve.experiments.arena.archive import Archive
from fedsieve.experiments.arena.cell import DONE, FAILED, UNDEFINED, AbandonedError, play
from fedsieve.experiments.arena.plan import Cell, Plan, load
from fedsieve.experiments.arena.run import arena
from fedsieve.experiments.pieces import dataset
from fedsieve.experiments.run import run
from fedsieve.experiments.toml import ConfigError

FILE = """
rounds = 12
[data]
name = "digits"
[federation]
clients = 6
[model]
name = "softmax"
[algorithm]
name = "dshb"
[arena]
rules = ["mean", "trimmed-mean", "nnm >> caf"]
attacks = ["label-flip", "foe"]
byzantine = [1, 3]
workers = 1
"""

TWO = "arena.workers=2"  # a process costs more than all that it plays here


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take longer than everything else together; those of `whole` are enough."""
    monkeypatch.setattr(page, "draw", lambda _: None)


TABLE = ("arena.md", "arena.tex")
"""What an arena leaves that tells no times."""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("arena") / "plan.toml"
    path.write_text(FILE)
    return path


@pytest.fixture(scope="module")
def whole(file: Path) -> Path:
    """The directory of an arena that nobody disturbed."""
    directory = file.parent / "whole"
    arena(load(file, [TWO]), directory)
    return directory


def left(directory: Path) -> dict[str, str]:
    return {name: (directory / name).read_text() for name in TABLE}


def cells(directory: Path) -> set[str]:
    held = (directory / "cells").glob("[!.]*.json")
    return {path.stem for path in held}


# ------------------------------------------------------------------------------------ undisturbed


def test_every_defined_run_is_kept_and_the_others_say_why(file: Path, whole: Path) -> None:
    plan = load(file)
    defined = {c.key for c in plan.cells() if c.f == 1 or c.rule == "mean"}
    assert cells(whole) == defined
    told = json.loads((whole / "arena.json").read_text())
    undefined = [p for p in told["places"] if p["state"] == UNDEFINED]
    assert {(p["rule"], p["byzantine"]) for p in undefined} == {
        ("trimmed-mean", 3),
        ("nnm >> caf", 3),
    }
    assert all("largest allowed is 2" in p["reason"] for p in undefined)
    assert "not defined: " in (whole / "arena.md").read_text()
    for name in ("heat_map_f1", "heat_map_f3", "breakdown", "breakdown_foe"):
        png = (whole / "figures" / f"{name}.png").read_bytes()
        assert png.startswith(b"\x89PNG")


def test_a_run_of_an_arena_is_the_run_of_its_configuration(file: Path, whole: Path) -> None:
    plan, cell = load(file), Cell("nnm >> caf", "foe", 1, 0)
    score = Archive(whole).score(cell)
    assert score is not None
    alone = run(plan.config(cell)).summary
    changing = ("seconds_total", "seconds_by_phase", "peak_memory_bytes")
    assert score.summary is not None
    assert all(score.summary[key] == alone[key] for key in alone if key not in changing)


def test_a_finished_arena_is_not_played_again(file: Path, whole: Path, monkeypatch) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("a process is started")

    before = left(whole)
    monkeypatch.setattr("fedsieve.experiments.arena.run.Crew", never)
    arena(load(file), whole)
    assert left(whole) == before


def test_one_process_gives_the_same_table(file: Path, whole: Path, tmp_path: Path) -> None:
    arena(load(file), tmp_path / "one")
    assert left(tmp_path / "one") == left(whole)


def test_privacy_is_told_with_its_terms(file: Path, tmp_path: Path) -> None:
    settings = ["arena.rules=caf", "arena.attacks=foe", "arena.byzantine=1", "rounds=3"]
    plan = load(file, [*settings, "privacy.epsilon=5", "privacy.noise_seed=1"])
    outcome = arena(plan, tmp_path / "private")
    told = (tmp_path / "private" / "arena.md").read_text()
    assert re.search(r"epsilon [45]\S* at delta 1e-05, per record \(add-remove\), Poisson", told)
    assert "noise from simulation seed 1" in told
    assert "expected per step" in outcome.page.read_text()


@pytest.fixture
def call(capsys, monkeypatch, tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def run(*words: object) -> tuple[int, str, str]:
        code = main(["arena", *map(str, words)])
        return (code, *capsys.readouterr())

    return run


# ---------------------------------------------------------------------------------- interruptions


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


def test_only_what_is_missing_is_played(file: Path, whole: Path, half: Path, monkeypatch) -> None:
    played: list[Cell] = []
    plays = crew.Crew.play

    def noted(self: crew.Crew, runs: Any, stopped: Any) -> Any:
        played.extend(cell for cell, _ in runs)
        return plays(self, runs, stopped)

    monkeypatch.setattr(crew.Crew, "play", noted)
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


def test_a_new_arena_is_announced(call, file: Path, tmp_path: Path) -> None:
    few = ["--set", "rounds=1", "--set", "arena.rules=mean", "--set", "arena.byzantine=0"]
    code, out, _ = call(file, *few, "--out", "one")
    assert code == 0
    assert out.startswith("a new arena begins in one: softmax on digits, dshb\n")


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


# --------------------------------------------------------------------------------------- failures


def small(file: Path, *more: str) -> Plan:
    chosen = ["arena.rules=mean", "arena.attacks=['foe','alie']", "arena.byzantine=1"]
    return load(file, [*chosen, *more])


def configs(plan: Plan) -> list[tuple[Cell, Any]]:
    return [(cell, plan.config(cell)) for cell in plan.cells()]


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
    played: list[Cell] = []
    plays = crew.Crew.play

    def noted(self: crew.Crew, runs: Any, stopped: Any) -> Any:
        played.extend(cell for cell, _ in runs)
        return plays(self, runs, stopped)

    monkeypatch.setattr(crew.Crew, "play", noted)
    flips = ["arena.attacks=['label-flip','foe']", "arena.seeds=[0,1]", "rounds=2"]
    outcome = arena(small(file, "data.name=diabetes", *flips), tmp_path / "arena")
    assert {cell.attack for cell in played} == {"none", "foe"}
    ((reason, places),) = outcome.board.unplayed().items()
    assert "data.name='diabetes' is a regression and has no classes to flip" in reason
    assert places == ["mean / label-flip / f=1"]


def test_a_backdoor_tells_its_success(file: Path, tmp_path: Path) -> None:
    plan = small(file, "arena.attacks=badnets", "rounds=30")
    arena(plan, tmp_path / "arena")
    places = json.loads((tmp_path / "arena" / "arena.json").read_text())["places"]
    (row,) = [place for place in places if place["attack"] == "badnets"]
    assert row["attack_success_rate"] > 0.9
    assert row["mean"] > 0.8
    assert row["worst_success"]


def test_a_base_that_cannot_be_run_is_refused_before_anything_is_written(
    file: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"algorithm\.batch=5000 exceeds"):
        arena(small(file, "algorithm.batch=5000"), tmp_path / "arena")
    assert not (tmp_path / "arena").exists()


# ------------------------------------------------------------------------------------ the command


def test_the_command_prints_the_table_and_where_the_files_are(call, file: Path, half: Path) -> None:
    code, out, err = call(file, "--out", half)
    assert (code, err) == (0, "")
    table = out[out.index("\nf = 1 of n = 6") :]
    assert max(map(len, table.splitlines()[:-2])) <= 80
    assert "nnm >> caf" in table
    assert f"report{half}/report.html" in re.sub(r"\s", "", out)
    assert re.search(r"run \d+/18  ", out)


def test_json_and_quiet(call, file: Path, half: Path) -> None:
    code, out, err = call("--out", half, "--set", "arena.workers=1", "--json")
    assert code == 0
    assert len(json.loads(out)["places"]) == 18
    lines = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    assert lines
    assert set(lines[0]) >= {"rule", "attack", "byzantine", "seed", "state", "test_accuracy"}
    assert call("--out", half, "--quiet") == (0, "", "")


def test_bad_plans_get_one_line(call, file: Path, half: Path) -> None:
    for words, part in (
        (("nowhere.toml",), "cannot read the configuration nowhere.toml"),
        ((file, "--set", "arena.rules=kaf"), "did you mean 'caf'"),
        ((file, "--set", "rounds=5", "--out", half), "rounds was 12, is now 5"),
    ):
        code, out, err = call(*words)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert part in err
