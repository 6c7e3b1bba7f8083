"""Worker processes: the same bits as one process, no orphans, errors that say what happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from fedsieve.privacy import GaussianMechanism
from fedsieve.simulation.loop import Simulation
from fedsieve.simulation.workers import WorkerError

NOISE = GaussianMechanism(clip=1.0, noise_multiplier=0.5, batch=8)


def run(job):
    with Simulation(job) as simulation:
        rows = [simulation.step() for _ in range(job.rounds)]
        pids = getattr(simulation._executor, "pids", [])
    return simulation, rows, pids


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rsplit(")", 1)[1].split()[0] != "Z"


def comparable(row):
    """What of a row must not depend on who computed it; nan is not equal to itself."""
    return {key: str(value) for key, value in row.items() if not key.startswith("seconds_")}


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_give_the_same_bits_as_one_process(make_job, workers):
    setting = {
        "mechanism": NOISE,
        "steps": 3,
        "rounds": 4,
        "participation": {"size": 4, "stragglers": 0.3},
    }
    serial, rows, _ = run(make_job("scaffold", **setting))
    parallel, parallel_rows, pids = run(make_job("scaffold", workers=workers, **setting))
    assert len(pids) == workers
    for key in serial.shared:
        assert torch.equal(serial.shared[key], parallel.shared[key]), key
    for key in serial.memory:
        assert torch.equal(serial.memory[key], parallel.memory[key]), key
    for one, other in zip(rows, parallel_rows, strict=True):
        assert comparable(one) == comparable(other)
    assert not any(is_running(pid) for pid in pids)


def test_a_client_that_fails_is_reported_with_its_cause(make_job):
    job = make_job("fedavg", workers=2)
    beyond = (np.full(20, 10**6), *job.shards.parts[1:])
    job = replace(job, shards=replace(job.shards, parts=beyond))
    with Simulation(job) as simulation:
        with pytest.raises(WorkerError, match=r"out of (range|bounds)"):
            simulation.step()
        pids = simulation._executor.pids
    assert not any(is_running(pid) for pid in pids)


def test_a_worker_that_dies_is_reported(make_job):
    with Simulation(make_job("fedavg", workers=2)) as simulation:
        simulation.step()
        os.kill(simulation._executor.pids[0], signal.SIGKILL)
        with pytest.raises(WorkerError, match="died"):
            simulation.step()


PARENT = """
import sys, time
import fedsieve
from fedsieve.experiments.build import build
from fedsieve.experiments.toml import parse
from fedsieve.simulation.loop import Simulation

if __name__ == "__main__":
    config = parse({"data": {"name": "digits"}, "model": {"name": "softmax"}, "rounds": 100000,
                    "algorithm": {"name": "fedavg"}, "workers": 2})
    with Simulation(build(config).job) as simulation:
        simulation.step()
        print(*simulation._executor.pids, flush=True)
        while True:
            simulation.step()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_no_worker_outlives_its_parent(tmp_path, number):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    parent = subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2
    # a terminal's Ctrl-C reaches the whole group, the workers included
    (os.killpg if number == signal.SIGINT else os.kill)(parent.pid, number)
    parent.wait(timeout=60)
    parent.stdout.close()
    for _ in range(200):
        if not any(is_running(pid) for pid in pids):
            break
        time.sleep(0.05)
    assert not any(is_running(pid) for pid in pids)
