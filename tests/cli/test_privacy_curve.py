"""``fedsieve privacy curve``: the picture, and each setting turned."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fedsieve.privacy import Setting, epsilon
from tests.cli.telling import JOB, SAID, Told, bad_input


def test_curve(privacy: Callable[..., Told], tmp_path: Path) -> None:
    told = privacy("curve", *JOB, "--rounds", "100", "--out", "there/curve.png")
    assert (told.code, told.err) == (0, "wrote there/curve.png\n")
    assert (tmp_path / "there" / "curve.png").read_bytes().startswith(b"\x89PNG")
    for words in (*SAID, "sampling rate 0.5", "replace-one", "zero-out", "steps 200"):
        assert words in told.out
    assert max(map(len, told.out.splitlines()[1:])) <= 80
    found = json.loads(privacy("curve", *JOB, "--rounds", "100", "--json").out)
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


@pytest.mark.parametrize("name", ["curve.gif", "curve", "."])
def test_a_curve_that_cannot_be_written_is_refused_before_it_is_computed(
    privacy: Callable[..., Told], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(Setting, "guarantee", None)
    told = bad_input(privacy("curve", *JOB, "--rounds", "100", "--out", name))
    assert f"--out {name} " in told
    assert ".png" in told
    assert not list(tmp_path.iterdir())


def test_curve_needs_no_torch(tmp_path: Path) -> None:
    line = ["privacy", "curve", *JOB, "--rounds", "9", "--out", str(tmp_path / "c.png")]
    code = (
        f"import sys; from fedsieve.cli import main; main({line!r});"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
