"""How fast federated simulators are: the same job in each, one after another, in one run.

    python benchmarks/simulators.py [--rounds 30] [--models mlp cnn] [--only NAME ...]

Each peer lives in an environment of its own under benchmarks/.envs, made on first use. Every engine
runs in a process of its own, at the thread count that suits it best, on the same two cores; beside
seconds a row shows CPU seconds, memory of the process tree, load, and the ratio to the floor that
this run's own matrix products set. See README.md for how each peer is driven.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common_job as job
import numpy as np
from peers._environments import PEERS, PeerError, install, last_line, python
from peers._process_tree import members, resident_bytes
from peers._results import CORES, MEMORY_TARGET, REFERENCE, Row, compare, table, verdicts, write

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
GEMM_LIMIT = 120.0  # seconds for measuring the floor
ALLOCATOR = {f"MALLOC_{name}_THRESHOLD_": str(1 << 30) for name in ("MMAP", "TRIM")}
"""glibc keeps freed memory, as the fedsieve command asks it to: the same terms for every engine."""
REFERENCE_MODULE = "fedsieve"
SAMPLING = 1.0  # seconds between two looks at a running engine's memory; each look costs it time


@dataclass(frozen=True)
class Engine:
    """One way to do the job.

    Args:
        name: What the table calls it.
        module: The driver, ``peers.MODULE``.
        environment: Where it runs; ``None``: in FedSieve's own environment.
        processes: Processes that compute.
        threads: Threads of each.
    """

    name: str
    module: str
    environment: str | None = None
    processes: int = 1
    threads: int = 1

    @property
    def cores(self) -> int:
        """Cores that it can keep busy."""
        return self.processes * self.threads


ENGINES = (
    Engine(REFERENCE, "fedsieve", processes=2),
    Engine("FedSieve, serial", "fedsieve"),
    Engine("JAX jit(scan)", "jax_scan", "jax", threads=2),
    Engine("torch loop", "torch_loop"),
    Engine("BlazeFL, serial", "blazefl", "blazefl"),
    Engine("pfl", "pfl", "pfl"),
    Engine("ByzFL, 1 thread", "byzfl", "byzfl"),
    Engine("ByzFL, 2 threads", "byzfl", "byzfl", threads=2),
    Engine("Flower on Ray, 2 actors", "flower", "flower", processes=2),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=job.ROUNDS)
    parser.add_argument("--models", nargs="+", choices=list(job.ACCURACY), default=["mlp", "cnn"])
    names = sorted({engine.module for engine in ENGINES})
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--skip-install", action="store_true", help="use the environments as found")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds for one engine")
    parser.add_argument("--out", type=Path, help="folder of the results of a partial run")
    args = parser.parse_args()
    complete = args.rounds == job.ROUNDS and set(args.only) == set(names) and len(args.models) == 2
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])  # engines inherit it
    engines = [engine for engine in ENGINES if engine.module in args.only]
    broken = {} if args.skip_install else install({engine.environment for engine in engines})
    rates = {cores: gemm_rates(cores) for cores in (1, CORES)}
    rows = []
    lay_records()
    for model in args.models:
        for engine in engines:
            print(f"  {engine.name}, {model} ...", file=sys.stderr, flush=True)
            row = Row(engine.name, model, engine.processes, engine.threads)
            try:
                if engine.environment in broken:
                    raise PeerError(broken[engine.environment])
                if engine.module == REFERENCE_MODULE:
                    run(engine, model, 1, args.timeout, "--idle")  # leaves its kernels on disk
                measure(row, engine, args.rounds, args.timeout)
                if engine.module == REFERENCE_MODULE:
                    measure_memory(row, engine, args.timeout)
            except PeerError as error:
                row.error = str(error)
            row.floor = job.flop(model) / max(rates[engine.cores].values()) / 1e9
            row.to_floor = row.median / row.floor
            rows.append(row)
    compare(rows)
    print(table(rows, rates))
    print("\n".join(verdicts(rows)))
    folder = RESULTS if complete else args.out
    if folder is not None:
        write(folder, rows, rates, args.rounds)


def lay_records() -> None:
    """Lay the records where every engine reads them, for as long as this process lives."""
    folder = tempfile.mkdtemp(prefix="common-job-")
    atexit.register(shutil.rmtree, folder)
    for name, array in job.made()._asdict().items():
        np.save(Path(folder, f"{name}.npy"), array)
    os.environ[job.FOLDER] = folder


def gemm_rates(cores: int) -> dict[str, float]:
    """GFLOP/s of this run's own float32 matrix products by size."""
    result, _ = run(Engine("GEMM", "gemm", threads=cores), "mlp", 1, GEMM_LIMIT)
    rates: dict[str, float] = result["rates"]
    return rates


def measure(row: Row, engine: Engine, rounds: int, timeout: float) -> None:
    """Fill in what the engine does with the row's model."""
    result, row.peak_bytes = run(engine, row.model, rounds, timeout)
    row.load = os.getloadavg()[0]
    row.rounds, row.versions = result["seconds"], result["versions"]
    row.cpu, row.accuracy = result["cpu"], result["accuracy"]
    row.resident_bytes = result.get("resident", 0)
    row.median, row.minimum = statistics.median(row.rounds), min(row.rounds)
    row.first = row.rounds[0]
    row.p10, row.p90 = (float(q) for q in np.quantile(row.rounds, [0.1, 0.9]))
    low, high = job.ACCURACY[row.model]
    if rounds == job.ROUNDS and not low <= row.accuracy <= high:
        row.error = f"accuracy {row.accuracy:.3f} is outside {low}..{high}: it did another job"


def measure_memory(row: Row, engine: Engine, timeout: float) -> None:
    """Fill in the memory that the job takes, and what it may take."""
    idle, _ = run(engine, row.model, 1, timeout, "--idle")
    row.taken_bytes = row.resident_bytes - idle["resident"]
    matrices = job.matrix_bytes(row.model, engine.processes)
    row.allowed_bytes = int(MEMORY_TARGET * job.data_bytes()) + matrices


def run(
    engine: Engine, model: str, rounds: int, timeout: float, *further: str
) -> tuple[dict[str, Any], int]:
    """What the driver reports, and the largest memory of its process tree in bytes.

    Raises:
        PeerError: It failed, or took too long.
    """
    with tempfile.TemporaryDirectory() as scratch:
        out, log = Path(scratch, "result.json"), Path(scratch, "log")
        arguments = [str(python(engine.environment)), "-m", f"peers.{engine.module}"]
        arguments += ["--model", model, "--rounds", str(rounds), "--out", str(out)]
        arguments += ["--processes", str(engine.processes), "--threads", str(engine.threads)]
        arguments += further
        threads = {f"{library}_NUM_THREADS": str(engine.threads) for library in ("OMP", "MKL")}
        variables = PEERS[engine.environment].variables if engine.environment else {}
        home = {"FLWR_HOME": scratch, "PYTHONPATH": str(HERE), "PYTHONWARNINGS": "ignore"}
        with log.open("w") as sink:
            process = subprocess.Popen(
                arguments,
                cwd=HERE,
                env=os.environ | ALLOCATOR | threads | variables | home,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            peak = watch(process, timeout)
        if process.returncode or not out.exists():
            raise PeerError(last_line(log.read_text(errors="replace")))
        return json.loads(out.read_text()), peak


def watch(process: subprocess.Popen[bytes], timeout: float) -> int:
    """Wait for a driver; the largest memory of its tree. Ends the whole tree if it takes too long.

    Raises:
        PeerError: It took too long.
    """
    peak, until = 0, time.monotonic() + timeout
    try:
        while process.poll() is None:
            peak = max(peak, resident_bytes(process.pid))
            if time.monotonic() > until:
                raise PeerError(f"no result within {timeout:.0f} s")
            time.sleep(SAMPLING)
    finally:
        if process.poll() is None:
            for pid in reversed(members(process.pid)):
                os.kill(pid, signal.SIGKILL)
            process.wait()
    return peak


if __name__ == "__main__":
    main()
