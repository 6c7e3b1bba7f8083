"""``fedsieve privacy rounds``, ``curve`` and ``explain``: what they print, and what they refuse."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from fedsieve.cli import main
from fedsieve.privacy import epsilon, max_steps

JOB = ("--noise-multiplier", "10", "--sampling-rate", "1", "--delta", "1e-5")
SAID = ("unit: record", "one record added or removed", "delta = 1e-05", "no sampling", "exact")


@pytest.fixture
def call(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., SimpleNamespace]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def run(*words: str) -> SimpleNamespace:
        code = main(("privacy", *words))
        return SimpleNamespace(code=code, **capsys.readouterr()._asdict())

    return run


@pytest.fixture(scope="session")
def invent(root: Path) -> Callable[..., Path]:
    where = root / "tests" / "experiments" / "conftest.py"
    spec = importlib.util.spec_from_file_location("invented_runs_of_privacy", where)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.invent  # type: ignore[no-any-return]


def refused(told: SimpleNamespace) -> str:
    assert (told.code, told.out, told.err.count("\n")) == (2, "", 1)
    return str(told.err)


def test_rounds(call: Callable[..., SimpleNamespace]) -> None:
    told = call("rounds", "--epsilon", "4", *JOB)
    most = max_steps(4.0, 10.0, 1.0, 1e-5)
    assert told.code == 0
    assert told.out.startswith(f"{most} rounds of 1 noisy releases fit")
    for words in SAID:
        assert words in told.out
    found = json.loads(call("rounds", "--epsilon", "4", *JOB, "--local-steps", "5", "--json").out)
    assert found["rounds"] == most // 5
    assert found["epsilon"] == epsilon(10.0, 1.0, most // 5 * 5, 1e-5).epsilon <= 4
    none = json.loads(call("rounds", "--epsilon", "0.001", *JOB, "--json").out)
    assert (none["rounds"], none["epsilon"]) == (0, 0)
    client = call("rounds", "--epsilon", "4", *JOB, "--unit", "client").out
    assert "unit: client" in client


def test_curve(call: Callable[..., SimpleNamespace], tmp_path: Path) -> None:
    told = call("curve", *JOB, "--rounds", "100", "--out", "there/curve.png")
    assert (told.code, told.err) == (0, "wrote there/curve.png\n")
    assert (tmp_path / "there" / "curve.png").read_bytes().startswith(b"\x89PNG")
    for words in (*SAID, "sampling rate 0.5", "replace-one", "zero-out", "steps 200"):
        assert words in told.out
    assert max(map(len, told.out.splitlines()[1:])) <= 80
    found = json.loads(call("curve", *JOB, "--rounds", "100", "--json").out)
    assert found["epsilon"] == epsilon(10.0, 1.0, 100, 1e-5).epsilon
    assert found["curve"][-1] == {"rounds": 100, "epsilon": found["epsilon"]}
    values = [point["epsilon"] for point in found["curve"]]
    assert values == sorted(values)
    for turn in found["knobs"]:
        less = turn["knob"] in ("noise multiplier", "delta") and turn["value"] > 1e-5
        less = (less and turn["value"] != 5) or turn["value"] in (0.5, 50)
        if turn["value"] != "zero-out":
            assert (turn["epsilon"] < found["epsilon"]) == less
        assert {"unit", "relation", "delta", "sampling", "accountant"} <= set(turn)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("rounds", "--epsilon", "0", *JOB), "epsilon=0.0"),
        (("rounds", "--epsilon", "1", *JOB, "--local-steps", "0"), "local_steps=0"),
        (("rounds", "--epsilon", "1", *JOB, "--relation", "swap"), "relation='swap'"),
        (("rounds", "--epsilon", "1", *JOB, "--unit", "user"), "unit='user'"),
        (("rounds", "--epsilon", "1", *JOB[2:], "--noise-multiplier", "0"), "noise_multiplier=0.0"),
        (("curve", *JOB, "--rounds", "0"), "rounds=0"),
        (("curve", *JOB[:4], "--delta", "1", "--rounds", "3"), "delta=1.0"),
        (("explain", "nowhere"), "nowhere holds no run"),
    ],
)
def test_bad_input_is_refused(
    call: Callable[..., SimpleNamespace], words: tuple[str, ...], part: str
) -> None:
    assert part in refused(call(*words))


def test_explain_tells_what_was_paid_for_and_flags_what_was_not(
    call: Callable[..., SimpleNamespace], invent: Callable[..., Path], tmp_path: Path
) -> None:
    run = invent(tmp_path / "private", rounds=3)
    told = call("explain", str(run))
    text = " ".join(told.out.split()).replace("- ", "-")  # words that were broken
    assert told.code == 0
    for words in ("epsilon 3.999 at delta 1e-05, per record (add-remove), Poisson sampling, PLD",
                  "! records by client and class", "! signal_norm", "! clipped_fraction",
                  "test set", "nominal sizes N"):  # fmt: skip
        assert words in text
    assert max(map(len, told.out.splitlines())) <= 80
    found = json.loads(call("explain", str(run), "--json").out)
    kinds = {entry["what"].split()[0]: entry["kind"] for entry in found["released"]}
    assert kinds["messages"] == "paid for"
    assert kinds["test"] == "free"
    assert kinds["records"] == "simulator only"
    assert all(e["flagged"] == (e["kind"] in ("simulator only", "unprotected"))
               for e in found["released"])  # fmt: skip


def test_explain_without_privacy_or_with_a_seed_or_unfinished(
    call: Callable[..., SimpleNamespace], invent: Callable[..., Path], tmp_path: Path
) -> None:
    open_ = json.loads(call("explain", str(invent(tmp_path / "o", private=False)), "--json").out)
    assert open_["released"][0]["kind"] == "unprotected"
    assert "no epsilon holds" in open_["released"][0]["cost"]
    half = invent(tmp_path / "h", rounds=2, finished=False)
    assert "ledger.jsonl holds what was spent" in " ".join(call("explain", str(half)).out.split())
    manifest = json.loads((half / "manifest.json").read_text())
    manifest["seeds"]["noise_seed"] = 7
    (half / "manifest.json").write_text(json.dumps(manifest))
    assert "! noise seed 7" in call("explain", str(half)).out
    (half / "config.toml").write_text("= 3")
    assert "config.toml cannot be read" in refused(call("explain", str(half)))


@pytest.mark.parametrize("words", [("rounds", "--epsilon", "4", *JOB), ("explain", "DIR")])
def test_neither_torch_nor_matplotlib_is_loaded(
    invent: Callable[..., Path], tmp_path: Path, words: tuple[str, ...]
) -> None:
    run = str(invent(tmp_path / "run", rounds=2))
    line = ["privacy", *(run if word == "DIR" else word for word in words)]
    code = (
        f"import sys; from fedsieve.cli import main; code = main({line!r});"
        "print(*{'torch', 'matplotlib'} & set(sys.modules), file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr.strip()) == (0, "")


def test_curve_needs_no_torch(tmp_path: Path) -> None:
    line = ["privacy", "curve", *JOB, "--rounds", "9", "--out", str(tmp_path / "c.png")]
    code = (
        f"import sys; from fedsieve.cli import main; main({line!r});"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
