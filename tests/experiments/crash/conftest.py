"""What killed runs left behind, and the runs that nobody disturbed."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fedsieve
from fedsieve.experiments import run as running
from fedsieve.experiments import toml
from fedsieve.simulation.checkpoint import Checkpoint
from tests.experiments.crash.deaths import (
    DRIVER,
    ENTROPY,
    LIMITED,
    LONG,
    POINTS,
    settings,
    undrawn,
)


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
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
        [sys.executable, str(DRIVER)],
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
