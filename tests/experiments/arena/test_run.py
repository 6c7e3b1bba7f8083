"""Playing an arena that nobody disturbs, and the files that are left."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from fedsieve.experiments.arena.archive import Archive
from fedsieve.experiments.arena.cell import UNDEFINED
from fedsieve.experiments.arena.plan import Cell, load
from fedsieve.experiments.arena.run import arena
from fedsieve.experiments.run import run
from tests.experiments.arena.small_arenas import cells, left, small

pytestmark = pytest.mark.usefixtures("undrawn")


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


def test_a_backdoor_tells_its_success(file: Path, tmp_path: Path) -> None:
    plan = small(file, "arena.attacks=badnets", "rounds=30")
    arena(plan, tmp_path / "arena")
    places = json.loads((tmp_path / "arena" / "arena.json").read_text())["places"]
    (row,) = [place for place in places if place["attack"] == "badnets"]
    assert row["attack_success_rate"] > 0.9
    assert row["mean"] > 0.8
    assert row["worst_success"]
