"""`fedsieve list`, `schema`, `init`, `show` and `report`."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from fedsieve.experiments import toml
from fedsieve.registry import ROOMS, components
from tests.cli.telling import Told, bad_input


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


def test_init_tells_of_a_directory_that_it_makes(call: Callable[..., Told], tmp_path: Path) -> None:
    told = call("init", "a/b/my run.toml")
    assert (tmp_path / "a" / "b" / "my run.toml").is_file()
    assert told.err == (
        "wrote a/b/my run.toml in the new directory a/b; "
        "run it with: fedsieve run 'a/b/my run.toml'\n"
    )
    assert "new directory" not in call("init", "a/b/other.toml").err


def test_show(call: Callable[..., Told], invented: Callable[..., Path], tmp_path: Path) -> None:
    finished = str(invented(tmp_path / "finished", rounds=2))
    told = call("show", finished)
    for words in ("84.0%", "add-remove", "Poisson", "noise from operating system entropy"):
        assert words in " ".join(told.out.split())
    assert max(map(len, told.out.splitlines())) <= 80
    assert json.loads(call("show", finished, "--json").out)["rounds"] == 2
    halted = str(invented(tmp_path / "halted here", rounds=2, finished=False))
    assert "not finished, 2 of 2 rounds" in (out := call("show", halted).out)
    assert f"fedsieve resume '{halted}'" in out
    assert json.loads(call("show", halted, "--json").out) is None


def test_report(call: Callable[..., Told], invented: Callable[..., Path], tmp_path: Path) -> None:
    runs = [str(invented(tmp_path / name, rounds=2)) for name in "ab"]
    assert call("report", runs[0]).out.strip() == str(Path(runs[0]) / "report.html")
    assert "--out . is a directory; give a file" in bad_input(call("report", *runs, "--out", "."))
    refused = bad_input(call("report", *runs, "--out", "both.pdf"))
    assert "--out both.pdf must end in .html or .htm, as both.html does" in refused
    assert not list(tmp_path.glob("both*"))
    told = call("report", *runs, "--out", "both.html")
    assert (told.code, told.out) == (0, "both.html\n")
    assert (tmp_path / "both.html").is_file()
