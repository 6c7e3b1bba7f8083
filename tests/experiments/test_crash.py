"""Runs that are killed, interrupted or damaged, and what a user gets who resumes them.

"As if nothing had happened" means: the same bytes of parameters, the same rows of metrics and the
same figures of privacy as the run that nobody disturbed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fedsieve
from fedsieve.cli import main
from fedsieve.experiments import run as running
from fedsieve.experiments import toml
from fedsieve.randomness import Streams
from fedsieve.simulation.checkpoint import Checkpoint, CheckpointError
from fedsieve.simulation.loop import Simulation

ROUNDS, EVERY = 10, 4

POINTS = {
    "before it has begun": ("fedsieve.experiments.run_directory:RunDirectory.save_manifest", 1),
    "before its first release": ("fedsieve.privacy.ledger:Ledger._append", 1),
    "killed in its first rounds": ("fedsieve.simulation.loop:Simulation._exchange", 3),
    "between two checkpoints": ("fedsieve.simulation.loop:Simulation._exchange", 7),
    "before a checkpoint": ("fedsieve.experiments.run:save", 3),
    "while a checkpoint is written": ("fedsieve.simulation.checkpoint:_flush", 7),
    "before old checkpoints are swept": ("fedsieve.simulation.checkpoint:_flush", 15),
    "before its summary": ("fedsieve.experiments.run_directory:RunDirectory.save_summary", 1),
    "before its report": ("fedsieve.experiments.run:report", 1),
}
"""Where a run kills itself: what it is about to call, for the so-maniest time."""

DRIVER = '''
"""Forks a process for each run that is to die: imports and accounting are then done already."""
import importlib, json, os, signal, sys, time
from pathlib import Path

import fedsieve
from fedsieve.cli import main
from fedsieve.simulation.loop import Simulation


def die_at(place, number):
    module, _, path = place.partition(":")
    owner, (*inner, name) = importlib.import_module(module), path.split(".")
    for part in inner:
        owner = getattr(owner, part)
    called, calls = getattr(owner, name), []

    def deadly(*args, **kwargs):
        calls.append(1)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return called(*args, **kwargs)

    setattr(owner, name, deadly)


def dawdle():
    step = Simulation.step
    Simulation.step = lambda self: (time.sleep(0.02), step(self))[1]


warm, deaths = json.load(sys.stdin)
fedsieve.run(warm)
for death in deaths:
    child = os.fork()
    if child == 0:
        die_at(*death["point"]) if "point" in death else dawdle()
        os._exit(main(death["words"]))
    if "appears" in death:
        while not Path(death["appears"]).exists() and not os.waitpid(child, os.WNOHANG)[0]:
            time.sleep(0.001)
        time.sleep(death["delay"])
        os.kill(child, signal.SIGKILL)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
'''


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the records of six clients."""
    place = tmp_path_factory.mktemp("crash")
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 120, size=(3, 1, 8, 8))
    (place / "records").mkdir()
    for name in ("a", "b", "c", "d", "e", "f", "test"):
        y = rng.integers(3, size=24)
        x = (patterns[y] + rng.integers(0, 120, size=(24, 1, 8, 8))).astype(np.uint8)
        np.savez(place / "records" / f"{name}.npz", x=x, y=y)
    return place


def settings(place: Path, **changes: Any) -> dict[str, Any]:
    """A run that keeps state of every kind: momentum, a learned basis, a ledger."""
    return {
        "seed": 5,
        "rounds": ROUNDS,
        "data": {"name": "folder", "dir": str(place / "records")},
        "federation": {"clients": 6, "byzantine": 1, "participation": 5, "dropout": 0.1},
        "attack": {"name": "alie", "strength": 1.5},
        "model": {"name": "mlp", "hidden": [8]},
        "algorithm": {"name": "sieve", "lr": 0.5, "batch": 6},
        "projection": {"name": "low-rank", "refresh": 3},
        "privacy": {"noise_multiplier": 1.0, "noise_seed": 3},
        "checkpoint": {"every": EVERY},
        "evaluation": {"every": 5},
        **changes,
    }


ENTROPY = {"privacy": {"noise_multiplier": 1.0}}
FRESH = Streams(0).noise_source  # its words are tested in test_randomness
LIMITED = {"privacy": {"epsilon": 4.0}}
LONG = {
    "rounds": 60,
    "checkpoint": {"every": 1},
    "privacy": {"noise_multiplier": 9, "noise_seed": 3},
}


@pytest.fixture(scope="module")
def whole(place: Path) -> Callable[..., Path]:
    """The directory of the run that nobody disturbed."""
    made: dict[str, Path] = {}

    def run(**changes: Any) -> Path:
        key = json.dumps(changes, sort_keys=True)
        if key not in made:
            made[key] = place / f"whole-{len(made)}"
            with undrawn():
                fedsieve.run(settings(place, **changes), made[key])
        return made[key]

    return run


@contextlib.contextmanager
def undrawn() -> Iterator[None]:
    """Figures take longer than everything else together, and tell nothing here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "report", lambda _: None)
        yield


@pytest.fixture(scope="module")
def killed(place: Path) -> dict[str, Path]:
    """Run directories, each as a SIGKILL left it."""
    words, deaths = {}, []

    def start(title: str, **changes: Any) -> list[str]:
        name = title.replace(" ", "-")
        file = place / f"{name}.toml"
        file.write_text(toml.dump(toml.parse(settings(place, **changes))))
        words[title] = place / name
        return ["run", str(file), "--quiet", "--out", str(place / name)]

    for title, point in POINTS.items():
        deaths.append({"words": start(title), "point": point})
    unsaved = ENTROPY | {"checkpoint": {"every": 0}}
    for title, changes in (
        ("entropy", ENTROPY),
        ("limited", LIMITED),
        ("without checkpoints", unsaved),
    ):
        begun = start(title, **changes)
        deaths.append({"words": begun, "point": POINTS["between two checkpoints"]})
    begun = start("three times in a row", **LONG)
    again = ["resume", "--quiet", begun[-1]]
    for command, round_, delay in ((begun, 1, 0.0), (again, 7, 0.013), (again, 15, 0.029)):
        seen = f"{begun[-1]}/checkpoints/round-{round_:06d}"
        deaths.append({"words": command, "appears": seen, "delay": delay})
    done = subprocess.run(
        [sys.executable, "-c", DRIVER],
        input=json.dumps([settings(place), deaths]),
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert done.stdout.split() == [str(-signal.SIGKILL)] * len(deaths), done.stderr
    return words


@pytest.fixture
def saved_rounds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rounds that were saved, in the order in which they were."""
    rounds: list[int] = []
    save = running.save

    def noted(folder: Path, checkpoint: Checkpoint) -> Path:
        rounds.append(checkpoint.round)
        return save(folder, checkpoint)

    monkeypatch.setattr(running, "save", noted)
    return rounds


@pytest.fixture
def corpse(killed: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of what a killed run left, to be resumed or damaged further."""

    def copy(title: str) -> Path:
        return Path(shutil.copytree(killed[title], tmp_path / "corpse"))

    return copy


def as_if_nothing_had_happened(directory: Path, whole: Path) -> bool:
    """Whether two finished runs agree in all but time and memory."""
    found = [fedsieve.resume(path) for path in (directory, whole)]
    ours, theirs = (
        {k: v for k, v in result.summary.items() if "seconds" not in k and k != "peak_memory_bytes"}
        for result in found
    )
    assert ours == theirs
    # epsilon is what had been spent when a row was written, in rounds that died as well
    unlike = ["epsilon", *(n for n in found[0].metrics.column_names if n.startswith("seconds_"))]
    ours, theirs = (str(result.metrics.drop_columns(unlike).to_pydict()) for result in found)
    assert ours == theirs
    return (directory / "model.safetensors").read_bytes() == (
        whole / "model.safetensors"
    ).read_bytes()


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
    again = fedsieve.resume(directory)  # it is finished, not interrupted
    assert again.summary == result.summary


# ------------------------------------------------------------------- checkpoints that are damaged


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


def test_other_records_than_those_of_the_start_are_refused(
    corpse: Callable[[str], Path], place: Path, tmp_path: Path
) -> None:
    directory = corpse("between two checkpoints")
    records = Path(shutil.copytree(place / "records", tmp_path / "records"))
    (records / "f.npz").unlink()
    config = directory / "config.toml"
    config.write_text(config.read_text().replace(str(place / "records"), str(records)))
    with pytest.raises(toml.ConfigError, match="was started with data"):
        fedsieve.resume(directory)


@pytest.mark.parametrize("title", ["between two checkpoints", "entropy"])
def test_other_settings_than_those_of_the_start_are_refused(
    corpse: Callable[[str], Path], title: str
) -> None:
    directory = corpse(title)
    config = directory / "config.toml"
    begun = config.read_text()
    for was, now, names in (
        ("lr = 0.5", "lr = 0.25", "algorithm;"),
        ("noise_multiplier = 1.0", "noise_multiplier = 1.5", "privacy;"),
        ("seed = 5", "seed = 6", "seed;"),
        ("rounds = 10", "rounds = 11", "rounds;"),
    ):
        assert was in begun
        config.write_text(begun.replace(was, now, 1))
        with pytest.raises(toml.ConfigError, match=f"started with other settings of {names}"):
            fedsieve.resume(directory)


def test_what_influences_no_message_may_change(
    corpse: Callable[[str], Path], whole: Callable[..., Path], place: Path, tmp_path: Path
) -> None:
    directory = corpse("between two checkpoints")
    shutil.copytree(place / "records", tmp_path / "records")
    config = toml.load(directory / "config.toml").model_dump(exclude_none=True)
    config |= {"name": "moved", "workers": "auto", "checkpoint": {"every": 1}}
    config["data"]["dir"] = str(tmp_path / "records")
    (directory / "config.toml").write_text(toml.dump(toml.parse(config)))
    with undrawn():
        fedsieve.resume(directory)
        assert as_if_nothing_had_happened(directory, whole())


@pytest.mark.parametrize(
    ("section", "name", "value", "told"),
    [
        ("versions", "torch", "1.0", r"torch 1\.0, now \d"),
        ("versions", "numpy", "1.0", r"numpy 1\.0, now \d"),
        ("versions", "fedsieve", "0.0", r"fedsieve 0\.0, now \d"),
        ("machine", "device", "cuda NVIDIA H200", "device cuda NVIDIA H200, now cpu"),
    ],
)
def test_noise_that_repeats_wants_the_arithmetic_that_it_was_drawn_for(
    corpse: Callable[[str], Path], section: str, name: str, value: str, told: str
) -> None:
    """Else the same noise would cover two messages, and their difference would be bare."""
    directory = corpse("between two checkpoints")
    manifest = json.loads((directory / "manifest.json").read_text())
    manifest[section][name] = value
    (directory / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(toml.ConfigError, match=rf"with {told}.*noise_seed=3 repeats the noise"):
        fedsieve.resume(directory)


def test_fresh_noise_goes_on_with_any_version(corpse: Callable[[str], Path]) -> None:
    directory = corpse("entropy")
    manifest = json.loads((directory / "manifest.json").read_text())
    manifest["versions"]["torch"] = "1.0"
    (directory / "manifest.json").write_text(json.dumps(manifest))
    with undrawn():
        assert fedsieve.resume(directory).summary["rounds"] == ROUNDS


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


# ---------------------------------------------------------------------------------------- Ctrl-C


@contextlib.contextmanager
def press(round_: int, times: int = 1) -> Iterator[None]:
    """Press Ctrl-C at the start of a round, so many times."""
    step = Simulation.step

    def pressed(self: Simulation) -> dict[str, Any]:
        if self.round == round_:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
        return step(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Simulation, "step", pressed)
        yield


def last_checkpoint(directory: Path) -> str:
    return max(path.name for path in (directory / "checkpoints").iterdir())


@pytest.mark.parametrize("every", [EVERY, 0])
def test_ctrl_c_finishes_the_round_and_saves_it(
    place: Path, whole: Callable[..., Path], tmp_path: Path, every: int
) -> None:
    handler = signal.getsignal(signal.SIGINT)
    settled = settings(place, checkpoint={"every": every})
    with press(5), pytest.raises(KeyboardInterrupt):
        fedsieve.run(settled, tmp_path / "run")
    assert signal.getsignal(signal.SIGINT) is handler
    assert last_checkpoint(tmp_path / "run") == "round-000006"
    with undrawn():
        fedsieve.resume(tmp_path / "run")
        assert as_if_nothing_had_happened(tmp_path / "run", whole())


def test_a_second_ctrl_c_stops_at_once(place: Path, tmp_path: Path) -> None:
    with press(5, times=2), pytest.raises(KeyboardInterrupt):
        fedsieve.run(settings(place), tmp_path / "run")
    assert last_checkpoint(tmp_path / "run") == "round-000004"


# ------------------------------------------------------------------------------ worker processes

FEDAVG = {
    "rounds": 80,
    "algorithm": {"name": "fedavg", "batch": 6, "local_steps": 3, "lr": 0.1},
    "projection": {"name": "identity"},
    "privacy": {"noise_multiplier": 30.0, "noise_seed": 3},
    "checkpoint": {"every": 1},
    "evaluation": {"every": 80},
}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="process groups are read in /proc")
def test_a_run_with_workers_survives_ctrl_c_and_sigkill_and_leaves_no_orphan(
    command: Callable[..., subprocess.Popen[str]],
    until: Callable[..., bool],
    group: Callable[[int], list[int]],
    place: Path,
    whole: Callable[..., Path],
    tmp_path: Path,
) -> None:
    file, directory = tmp_path / "run.toml", tmp_path / "run"
    file.write_text(toml.dump(toml.parse(settings(place, **FEDAVG, workers=2))))

    interrupted = command("run", file, "--out", directory)
    assert until((directory / "checkpoints" / "round-000000").is_dir)
    assert until(lambda: len(group(interrupted.pid)) >= 3)  # the workers are still importing
    os.killpg(interrupted.pid, signal.SIGINT)  # a terminal tells all of them
    out, err = interrupted.communicate(timeout=60)
    assert interrupted.returncode == 1
    assert err == f"stopped; go on with: fedsieve resume {directory}\n"
    assert out.count("144 training and 24 test") == 1
    reached = last_checkpoint(directory)
    assert "round-000000" < reached < "round-000080"

    killed = command("resume", directory, "--quiet")
    assert until(lambda: last_checkpoint(directory) > reached)
    assert len(group(killed.pid)) >= 3
    os.kill(killed.pid, signal.SIGKILL)  # nobody tells the workers
    assert killed.wait(timeout=60) == -signal.SIGKILL
    assert until(lambda: not group(killed.pid))
    assert not (directory / "summary.json").exists()

    config = directory / "config.toml"
    config.write_text(config.read_text().replace("workers = 2", "workers = 1"))
    with undrawn():
        fedsieve.resume(directory)
        assert as_if_nothing_had_happened(directory, whole(**FEDAVG))
