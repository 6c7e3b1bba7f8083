"""Runs to be killed, where they are killed, and how their ends compare.

"As if nothing had happened" means: the same bytes of parameters, the same rows of metrics and the
same figures of privacy as the run that nobody disturbed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fedsieve
from fedsieve.experiments import run as running
from fedsieve.randomness import Streams

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

DRIVER = Path(__file__).with_name("driver.py")


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


@contextlib.contextmanager
def undrawn() -> Iterator[None]:
    """Figures take longer than everything else together, and tell nothing here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "report", lambda _: None)
        yield


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


def last_checkpoint(directory: Path) -> str:
    return max(path.name for path in (directory / "checkpoints").iterdir())
