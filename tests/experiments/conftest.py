"""Invented run directories, records to train on for a moment, and real commands to kill."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from fedsieve.experiments import run
from fedsieve.experiments.summary import Summary
from fedsieve.learning.data import Dataset
from fedsieve.learning.datasets.own import from_arrays
from tests.experiments.invented_runs import invent, summary


@pytest.fixture(scope="session")
def invented() -> Callable[..., Path]:
    return invent


@pytest.fixture(scope="session")
def a_summary() -> Callable[..., Summary]:
    return summary


@pytest.fixture(scope="session")
def own() -> Dataset:
    """Three kinds of 4 x 4 images, 30 for each of six clients."""
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 150, size=(3, 1, 4, 4))
    y = rng.integers(3, size=240)
    x = (patterns[y] + rng.integers(0, 100, size=(240, 1, 4, 4))).astype(np.uint8)
    return from_arrays(x[:180], y[:180], x[180:], y[180:], mean=0.5, std=0.3)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the figures out: they take longer than everything else."""
    monkeypatch.setattr(run, "report", lambda _: None)


def running(leader: int) -> list[int]:
    """The running processes of a process group."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, pgrp = stat.read_text().rsplit(")", 1)[1].split()[:3]
            if int(pgrp) == leader and state != "Z":
                found.append(int(stat.parent.name))
    return found


def awaited(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return condition()


@pytest.fixture
def command() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the command in a process group of its own, as a shell does."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: object) -> subprocess.Popen[str]:
        program = "import sys; from fedsieve.cli import main; sys.exit(main())"
        process = subprocess.Popen(
            [sys.executable, "-c", program, *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture(scope="session")
def group() -> Callable[[int], list[int]]:
    return running


@pytest.fixture(scope="session")
def until() -> Callable[..., bool]:
    return awaited
