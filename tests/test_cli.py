"""The command: what it prints where, and the code with which it ends."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fedsieve._version import __version__
from fedsieve.cli import main
from fedsieve.experiments import toml
from fedsieve.registry import ROOMS, components


class Told(SimpleNamespace):
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def call(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Told]:
    """Run a command in an empty directory, as on a terminal of 80 columns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FEDSIEVE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FEDSIEVE_DATA", raising=False)

    def run(*words: str) -> Told:
        code = main(words)
        return Told(code=code, **capsys.readouterr()._asdict())

    return run


@pytest.fixture(scope="session")
def invented(root: Path) -> Callable[..., Path]:
    """A made-up run directory."""
    spec = importlib.util.spec_from_file_location(
        "invented_runs", root / "tests" / "experiments" / "conftest.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.invent  # type: ignore[no-any-return]


def bad_input(told: Told) -> str:
    """The one line that answers bad input."""
    assert told.code == 2
    assert told.out == ""
    assert told.err.startswith("error: ")
    assert told.err.count("\n") == 1
    return told.err


def test_help_loads_nothing_heavy_and_has_no_colours() -> None:
    program = (
        "import sys; from fedsieve.cli import main; code = main(['--help']);"
        "heavy = {'torch', 'numpy', 'pydantic', 'matplotlib', 'pyarrow'} & set(sys.modules);"
        "print(sorted(heavy), file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "[]"
    assert "\x1b" not in done.stdout
    for command in (
        "run",
        "resume",
        "arena",
        "reproduce",
        "list",
        "show",
        "report",
        "data",
        "privacy",
        "init",
    ):
        assert f"\n  {command} " in done.stdout


@pytest.mark.parametrize("words", [(), ("data",), ("privacy",), ("run", "--help")])
def test_help(call: Callable[..., Told], words: tuple[str, ...]) -> None:
    told = call(*words)
    assert told.code == 0
    assert told.out.startswith("Usage: fedsieve")
    assert max(map(len, told.out.splitlines())) <= 80


def test_version(call: Callable[..., Told]) -> None:
    assert call("version").out == f"fedsieve {__version__}\n"


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("lisst",), "No such command 'lisst'"),
        (("run", "--bogus"), "No such option: --bogus"),
        (("run", "missing.toml"), "missing.toml"),
        (("run", "--set", "rounds=0"), "rounds=0: allowed is greater than or equal to 1"),
        (("run", "--set", "round=3"), "unknown key round=3; did you mean rounds?"),
        (("run", "--out", "taken/run"), "taken/run cannot be written: taken: Not a directory"),
        (("run", "--set", "attack.name=aly"), "no attack is called 'aly'"),
        (("list", "rules"), "family='rules' is not one of algorithm, attack, "),
        (("show", "nowhere"), "nowhere holds no run"),
        (("resume", "nowhere"), "nowhere holds no run"),
        (("report", "nowhere"), "nowhere holds no run"),
        (("report",), "Missing argument"),
        (("data", "fetch", "nothing"), "no dataset is called 'nothing'"),
        (("data", "fetch", "digits"), "digits needs no download"),
        (("data", "verify", "nothing"), "no dataset is called 'nothing'"),
    ],
)
def test_bad_input_gets_one_line(
    call: Callable[..., Told], words: tuple[str, ...], part: str, tmp_path: Path
) -> None:
    (tmp_path / "taken").touch()
    assert part in bad_input(call(*words))


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


@pytest.mark.parametrize("family", sorted(ROOMS))
def test_list(call: Callable[..., Told], family: str) -> None:
    told = call("list", family)
    assert told.code == 0
    assert max(map(len, told.out.splitlines())) <= 80
    for held in components(family):
        assert f"\n  {held.name} " in told.out


def test_list_as_json(call: Callable[..., Told]) -> None:
    entries = json.loads(call("list", "--json").out)
    assert {entry["family"] for entry in entries} == set(ROOMS)
    assert set(entries[0]) == {"family", "name", "summary", "paper"}


def test_schema_is_json(call: Callable[..., Told]) -> None:
    assert "privacy" in json.loads(call("schema").out)["properties"]


def test_init_prints_or_writes_the_demo(call: Callable[..., Told], tmp_path: Path) -> None:
    printed = call("init").out
    assert toml.parse(tomllib.loads(printed)) == toml.load()
    assert call("init", "mine.toml").code == 0
    assert (tmp_path / "mine.toml").read_text() == printed
    assert toml.load(tmp_path / "mine.toml") == toml.load()
    assert "mine.toml exists" in bad_input(call("init", "mine.toml"))


def test_show(call: Callable[..., Told], invented: Callable[..., Path], tmp_path: Path) -> None:
    finished = str(invented(tmp_path / "finished", rounds=2))
    told = call("show", finished)
    for words in ("84.0%", "add-remove", "Poisson", "noise from operating system entropy"):
        assert words in " ".join(told.out.split())
    assert max(map(len, told.out.splitlines())) <= 80
    assert json.loads(call("show", finished, "--json").out)["rounds"] == 2
    halted = str(invented(tmp_path / "halted", rounds=2, finished=False))
    assert "not finished, 2 of 2 rounds" in call("show", halted).out
    assert json.loads(call("show", halted, "--json").out) is None


def test_report(call: Callable[..., Told], invented: Callable[..., Path], tmp_path: Path) -> None:
    runs = [str(invented(tmp_path / name, rounds=2)) for name in "ab"]
    assert call("report", runs[0]).out.strip() == str(Path(runs[0]) / "report.html")
    told = call("report", *runs, "--out", "both.html")
    assert (told.code, told.out) == (0, "both.html\n")
    assert (tmp_path / "both.html").is_file()


def test_privacy_there_and_back(call: Callable[..., Told]) -> None:
    job = ("--sampling-rate", "0.01", "--steps", "1000", "--delta", "1e-5")
    spent = json.loads(call("privacy", "epsilon", "--noise-multiplier", "1", *job, "--json").out)
    # dp-accounting's published PLD value for this job is 1.828
    assert spent["epsilon"] == pytest.approx(1.828, abs=2e-3)
    assert (spent["noise_multiplier"], spent["relation"]) == (1.0, "add-remove")
    assert "PLD" in spent["accountant"]
    back = json.loads(
        call("privacy", "noise", "--epsilon", str(spent["epsilon"]), *job, "--json").out
    )
    assert back["noise_multiplier"] == pytest.approx(1.0, rel=1e-3)
    assert back["epsilon"] <= spent["epsilon"]
    assert {"epsilon", "noise_multiplier", "relation", "accountant"} <= set(back)


def test_privacy_relations_and_words(call: Callable[..., Told]) -> None:
    job = ("--noise-multiplier", "2", "--sampling-rate", "1", "--steps", "10", "--delta", "1e-5")

    def epsilon(*more: str) -> float:
        return float(json.loads(call("privacy", "epsilon", *job, "--json", *more).out)["epsilon"])

    assert epsilon("--relation", "replace-one") > epsilon("--relation", "add-remove")
    told = call("privacy", "epsilon", *job).out
    for words in ("unit: record", "added or removed", "delta = 1e-05", "exact Gaussian"):
        assert words in told


@pytest.mark.parametrize(
    ("option", "value", "part"),
    [
        ("--noise-multiplier", "0", "noise_multiplier=0.0"),
        ("--sampling-rate", "1.5", "sampling_rate=1.5"),
        ("--steps", "-1", "steps=-1"),
        ("--steps", "many", "--steps"),
        ("--delta", "0", "delta=0.0"),
        ("--relation", "swap", "relation='swap'"),
    ],
)
def test_privacy_refuses(call: Callable[..., Told], option: str, value: str, part: str) -> None:
    job = {
        "--noise-multiplier": "1",
        "--sampling-rate": "0.1",
        "--steps": "10",
        "--delta": "1e-5",
        option: value,
    }
    words = [word for pair in job.items() for word in pair]
    assert part in bad_input(call("privacy", "epsilon", *words))


def test_data_list_and_verify(call: Callable[..., Told], tmp_path: Path) -> None:
    told = call("data", "list")
    assert told.code == 0
    for held in components("dataset"):
        assert held.name in told.out
    here = tmp_path / "data"
    here.mkdir()
    told = call("data", "verify", "mnist", "--data-dir", str(here))
    assert (told.code, told.err) == (1, f"error: mnist: no copy in {here}\n")
    assert call("data", "verify", "digits").out == "digits: no copy to verify\n"


def test_a_damaged_copy_fails_its_verification(call: Callable[..., Told], tmp_path: Path) -> None:
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    for name in names:
        (tmp_path / f"{name}-ubyte").write_bytes(b"damaged")
    told = call("data", "verify", "mnist", "--data-dir", str(tmp_path))
    assert told.code == 1
    assert "train-images-idx3-ubyte" in told.err
    assert "sha256" in told.err
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    told = call("data", "verify", "mnist", "--data-dir", str(tmp_path))
    assert (told.code, told.out) == (1, "")
    assert "files are missing" in told.err


# ------------------------------------------------------------- run and resume, without training


@pytest.fixture
def trainer(
    monkeypatch: pytest.MonkeyPatch, invented: Callable[..., Path], tmp_path: Path
) -> list[dict[str, Any]]:
    """Puts a trainer that only takes notes in the place of the real one."""
    from fedsieve.experiments import run_directory

    notes: list[dict[str, Any]] = []
    done = run_directory.RunDirectory(invented(tmp_path / "elsewhere", rounds=2))

    def run(config: object, directory: Path, *, progress: str) -> SimpleNamespace:
        notes.append({"config": config, "directory": directory, "progress": progress})
        return SimpleNamespace(summary=done.summary(), directory=directory)

    def resume(directory: Path, *, progress: str) -> SimpleNamespace:
        return run(None, directory, progress=progress)

    fake = SimpleNamespace(run=run, resume=resume)
    monkeypatch.setitem(sys.modules, "fedsieve.experiments.run", fake)
    return notes


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


def test_our_own_errors_are_a_line_and_bugs_a_trace(
    call: Callable[..., Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fedsieve.privacy import BudgetExceededError

    def fail(problem: Exception) -> None:
        def run(*_: object, **__: object) -> None:
            raise problem

        monkeypatch.setitem(sys.modules, "fedsieve.experiments.run", SimpleNamespace(run=run))

    fail(BudgetExceededError("client 3 is spent"))
    told = call("run", "--out", "there")
    assert (told.code, told.err) == (1, "error: client 3 is spent\n")
    fail(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        call("run", "--out", "there")


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fedsieve", "version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"fedsieve {__version__}\n"
