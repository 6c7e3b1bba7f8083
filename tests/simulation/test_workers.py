"""Worker processes: the same bits as one process, no orphans, errors that say what happened."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fedsieve.aggregation import CAF
from fedsieve.poisoning import UnNoised
from fedsieve.privacy import GaussianMechanism
from fedsieve.simulation import workers as module
from fedsieve.simulation.loop import Simulation
from fedsieve.simulation.workers import WorkerError, Workers

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


def test_malicious_clients_who_omit_the_noise_compute_beside_the_workers(make_job):
    setting = {"mechanism": NOISE, "steps": 2, "rounds": 3, "rule": CAF(2)}
    setting |= {"attack": UnNoised(), "byzantine": (1, 4)}
    serial, _, _ = run(make_job("scaffold", **setting))
    parallel, _, _ = run(make_job("scaffold", workers=2, **setting))
    assert torch.equal(serial.theta, parallel.theta)
    assert torch.equal(serial.memory["variates"], parallel.memory["variates"])


def left_over():
    return [p for p in multiprocessing.active_children() if p.name.startswith("fedsieve-worker")]


def test_a_client_that_fails_is_reported_with_its_cause(make_job):
    job = make_job("fedavg", workers=2)
    beyond = (np.full(20, 10**6), *job.shards.parts[1:])
    job = replace(job, shards=replace(job.shards, parts=beyond))
    with Simulation(job) as simulation:
        with pytest.raises(WorkerError, match=r"out of (range|bounds)"):
            simulation.step()
        # a stale answer of the other worker could not be told from one of a later round
        assert not left_over()
        executor, cohort = simulation._executor, SimpleNamespace(ids=(0,))
        with pytest.raises(WorkerError, match="have been ended"):
            executor.run(SimpleNamespace(tensors={}), {}, cohort)


def test_a_worker_that_dies_is_reported(make_job):
    with Simulation(make_job("fedavg", workers=2)) as simulation:
        simulation.step()
        os.kill(simulation._executor.pids[0], signal.SIGKILL)
        with pytest.raises(WorkerError, match=r"fedsieve-worker-0 died of signal 9.*out"):
            simulation.step()
        assert not left_over()


def test_a_worker_that_dies_while_others_still_compute_is_reported_at_once(make_job):
    def hangs(*_):
        raise AssertionError("the parent waits for a worker that it need not wait for")

    with Simulation(make_job("fedavg", workers=2)) as simulation:
        simulation.step()
        stopped, dead = simulation._executor.pids
        os.kill(stopped, signal.SIGSTOP)
        os.kill(dead, signal.SIGKILL)
        held = signal.signal(signal.SIGALRM, hangs)
        signal.alarm(20)
        try:
            with pytest.raises(WorkerError, match="fedsieve-worker-1 died of signal 9"):
                simulation.step()
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, held)
            os.kill(stopped, signal.SIGKILL) if is_running(stopped) else None
        assert not left_over()


def test_other_errors_of_the_system_are_no_deaths(make_job, monkeypatch):
    def full(_):
        raise OSError(errno.EMFILE, "too many open files")

    with Simulation(make_job("fedavg", workers=1)) as simulation:
        simulation.step()
        monkeypatch.setattr(simulation._executor._pipes[0], "send", full)
        with pytest.raises(OSError, match="too many open files"):
            simulation.step()


# -------------------------------------------------------------------------------- shared memory


def test_too_little_shared_memory_is_refused_before_it_is_used(make_job, monkeypatch):
    job = make_job("fedavg", workers=2)
    room = SimpleNamespace(f_bavail=2, f_frsize=1024)
    monkeypatch.setattr(module, "SHARED", Path("/"))
    monkeypatch.setattr(module.os, "statvfs", lambda _: room)
    data, d = job.shards.dataset, job.algorithm.width
    needed = data.x.nbytes + data.y.nbytes + 4 * d + 6 * 4 * d
    with Simulation(job) as simulation:
        with pytest.raises(WorkerError, match=rf"need {needed:,} bytes.* 2,048 bytes free") as told:
            simulation.step()
        assert "workers=1" in str(told.value)
    assert not data.x.is_shared()
    assert not left_over()


@pytest.mark.parametrize("in_place", [False, True])
def test_only_what_is_ours_is_moved_to_shared_memory(make_job, in_place):
    job = make_job("fedavg")
    shared, memory = job.algorithm.start(job.theta)
    x, y = job.shards.dataset.x.clone(), job.shards.dataset.y.clone()
    job = replace(job, shards=replace(job.shards, dataset=replace(job.shards.dataset, x=x, y=y)))
    workers = Workers(
        job.algorithm,
        job.shards,
        job.streams,
        memory,
        job.algorithm.broadcast(shared, 0),
        cohort=6,
        processes=1,
        in_place=in_place,
    )
    workers.close()
    assert (x.is_shared(), y.is_shared()) == (in_place, in_place)


# ------------------------------------------------------------------------- scripts and processes

UNGUARDED = """
import numpy as np
import fedsieve
from fedsieve.learning.datasets.own import from_arrays

n = {records}
x, y = np.zeros((n, 1), np.float32), np.arange(n) % 2
data = from_arrays(x, y, x[:2], y[:2])
fedsieve.run({{"model": {{"name": "softmax"}}, "rounds": 1, "workers": 2,
               "federation": {{"clients": 2}}, "algorithm": {{"name": "fedavg"}}}}, data=data)
"""


@pytest.mark.parametrize("records", [100, 50_000])  # less and more than fits into a pipe
def test_a_script_without_a_guard_is_told_of_it(tmp_path, records):
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED.format(records=records))
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("fedsieve.simulation.processes.WorkerError: fedsieve-worker-")
    assert last.endswith('behind `if __name__ == "__main__":`')


PARENT = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
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
    try:
        # a terminal's Ctrl-C reaches the whole group, the workers included
        (os.killpg if number == signal.SIGINT else os.kill)(parent.pid, number)
        parent.wait(timeout=60)
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    for _ in range(200):
        if not any(is_running(pid) for pid in pids):
            break
        time.sleep(0.05)
    assert not any(is_running(pid) for pid in pids)
