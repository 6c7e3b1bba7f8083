"""Ctrl-C, and worker processes whose parent dies."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fedsieve
from fedsieve.experiments import toml
from fedsieve.simulation.loop import Simulation
from tests.experiments.crash.deaths import (
    EVERY,
    as_if_nothing_had_happened,
    last_checkpoint,
    settings,
    undrawn,
)


@contextlib.contextmanager
def press(round_: int, times: int = 1) -> Iterator[None]:
    """Press Ctrl-C at the start of a round, so many times."""
    step = Simulation.step

    def pressed(self: Simulation) -> dict[str, Any]:
        if self.round == round_:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
        return step(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Simulation, "step", pressed)
        yield


@pytest.mark.parametrize("every", [EVERY, 0])
def test_ctrl_c_finishes_the_round_and_saves_it(
    place: Path, whole: Callable[..., Path], tmp_path: Path, every: int
) -> None:
    handler = signal.getsignal(signal.SIGINT)
    settled = settings(place, checkpoint={"every": every})
    with press(5), pytest.raises(KeyboardInterrupt):
        fedsieve.run(settled, tmp_path / "run")
    assert signal.getsignal(signal.SIGINT) is handler
    assert last_checkpoint(tmp_path / "run") == "round-000006"
    with undrawn():
        fedsieve.resume(tmp_path / "run")
        assert as_if_nothing_had_happened(tmp_path / "run", whole())


def test_a_second_ctrl_c_stops_at_once(place: Path, tmp_path: Path) -> None:
    with press(5, times=2), pytest.raises(KeyboardInterrupt):
        fedsieve.run(settings(place), tmp_path / "run")
    assert last_checkpoint(tmp_path / "run") == "round-000004"


# ------------------------------------------------------------------------------ worker processes

FEDAVG = {
    "rounds": 80,
    "algorithm": {"name": "fedavg", "batch": 6, "local_steps": 3, "lr": 0.1},
    "projection": {"name": "identity"},
    "privacy": {"noise_multiplier": 30.0, "noise_seed": 3},
    "checkpoint": {"every": 1},
    "evaluation": {"every": 80},
}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="process groups are read in /proc")
def test_a_run_with_workers_survives_ctrl_c_and_sigkill_and_leaves_no_orphan(
    command: Callable[..., subprocess.Popen[str]],
    until: Callable[..., bool],
    group: Callable[[int], list[int]],
    place: Path,
    whole: Callable[..., Path],
    tmp_path: Path,
) -> None:
    file, directory = tmp_path / "run.toml", tmp_path / "run"
    file.write_text(toml.dump(toml.parse(settings(place, **FEDAVG, workers=2))))

    interrupted = command("run", file, "--out", directory)
    assert until((directory / "checkpoints" / "round-000000").is_dir)
    assert until(lambda: len(group(interrupted.pid)) >= 3)  # the workers are still importing
    os.killpg(interrupted.pid, signal.SIGINT)  # a terminal tells all of them
    out, err = interrupted.communicate(timeout=60)
    assert interrupted.returncode == 1
    assert err == f"stopped; go on with: fedsieve resume {directory}\n"
    assert out.count("144 training and 24 test") == 1
    reached = last_checkpoint(directory)
    assert "round-000000" < reached < "round-000080"

    killed = command("resume", directory, "--quiet")
    assert until(lambda: last_checkpoint(directory) > reached)
    assert len(group(killed.pid)) >= 3
    os.kill(killed.pid, signal.SIGKILL)  # nobody tells the workers
    assert killed.wait(timeout=60) == -signal.SIGKILL
    assert until(lambda: not group(killed.pid))
    assert not (directory / "summary.json").exists()

    config = directory / "config.toml"
    config.write_text(config.read_text().replace("workers = 2", "workers = 1"))
    with undrawn():
        fedsieve.resume(directory)
        assert as_if_nothing_had_happened(directory, whole(**FEDAVG))
