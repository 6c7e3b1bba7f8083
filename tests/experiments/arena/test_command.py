"""The command `fedsieve arena`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("undrawn")


def test_a_new_arena_is_announced(call, file: Path, tmp_path: Path) -> None:
    few = ["--set", "rounds=1", "--set", "arena.rules=mean", "--set", "arena.byzantine=0"]
    code, out, _ = call(file, *few, "--out", "one")
    assert code == 0
    assert out.startswith("a new arena begins in one: softmax on digits, dshb\n")


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
