"""An arena of seconds, and what one leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedsieve.experiments.arena import crew
from fedsieve.experiments.arena.plan import Cell, Plan, load

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

TABLE = ("arena.md", "arena.tex")
"""What an arena leaves that tells no times."""


def left(directory: Path) -> dict[str, str]:
    return {name: (directory / name).read_text() for name in TABLE}


def cells(directory: Path) -> set[str]:
    held = (directory / "cells").glob("[!.]*.json")
    return {path.stem for path in held}


def small(file: Path, *more: str) -> Plan:
    chosen = ["arena.rules=mean", "arena.attacks=['foe','alie']", "arena.byzantine=1"]
    return load(file, [*chosen, *more])


def configs(plan: Plan) -> list[tuple[Cell, Any]]:
    return [(cell, plan.config(cell)) for cell in plan.cells()]


def noted(patch: pytest.MonkeyPatch) -> list[Cell]:
    """What is played from now on, as it is."""
    played: list[Cell] = []
    plays = crew.Crew.play

    def play(self: crew.Crew, runs: Any, stopped: Any) -> Any:
        played.extend(cell for cell, _ in runs)
        return plays(self, runs, stopped)

    patch.setattr(crew.Crew, "play", play)
    return played
