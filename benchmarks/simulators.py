"""How fast federated simulators are: the same job in each, one after another, in one run.

    python benchmarks/simulators.py [--rounds 30] [--models mlp cnn] [--only NAME ...]

Each peer lives in an environment of its own under benchmarks/.envs, made on first use. Every engine
runs in a process of its own, at the thread count that suits it best, on the same two cores; beside
seconds a row shows CPU seconds, memory of the process tree, load, and the ratio to the floor that
this run's own matrix products set. See README.md for how each peer is driven.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import common_job as job
import numpy as np
from peers import process_tree

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = HERE / ".envs"
RESULTS = HERE / "results"
CORES = 2
TORCH = "torch==2.13.0"
INSTALL_LIMIT = 1200.0  # seconds for one environment
SAMPLING = 0.25  # seconds between two looks at the memory of a running engine


@dataclass(frozen=True)
class Environment:
    """What a peer's environment holds.

    Args:
        needs: Installed together, so that no dependency can replace the pinned torch.
        bare: Installed afterwards without dependencies and without a look at ``Requires-Python``.
        variables: Set for the peer's process.
    """

    needs: tuple[str, ...]
    bare: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)


PEERS = {
    "flower": Environment(
        needs=(TORCH, "flwr[simulation]==1.41.0", "ray==2.55.1"),
        variables={
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        },
    ),
    "pfl": Environment(
        needs=(
            TORCH,
            "dp-accounting==0.5.1",
            "multiprocess==0.70.19",
            "packaging==25.0",
            "prv-accountant==0.2.0",
            "numpy==2.4.6",
            "scipy==1.17.1",
        ),
        bare=("pfl==0.6.0",),
    ),
    # byzfl asks for torchvision (data sets) and seaborn (figures); the job needs neither.
    "byzfl": Environment(needs=(TORCH, "numpy==2.4.6", "scipy==1.17.1"), bare=("byzfl==0.0.11",)),
    # blazefl 2.0.3 declares Python >= 3.12; the modules that the job uses are valid 3.11, too.
    "blazefl": Environment(
        needs=(TORCH, "numpy==2.4.6", "tqdm==4.67.1"),
        bare=("blazefl==2.0.3",),
        variables={"TQDM_DISABLE": "1"},
    ),
    "jax": Environment(needs=("jax==0.10.2", "jaxlib==0.10.2", "numpy==2.4.6")),
}


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


REFERENCE = Engine("FedSieve, 2 workers", "fedsieve", processes=2)
ENGINES = (
    REFERENCE,
    Engine("FedSieve, serial", "fedsieve"),
    Engine("JAX jit(scan)", "jax_scan", "jax", threads=2),
    Engine("torch loop", "torch_loop"),
    Engine("BlazeFL, serial", "blazefl", "blazefl"),
    Engine("pfl", "pfl", "pfl"),
    Engine("ByzFL, 1 thread", "byzfl", "byzfl"),
    Engine("ByzFL, 2 threads", "byzfl", "byzfl", threads=2),
    Engine("Flower on Ray, 2 actors", "flower", "flower", processes=2),
)
TARGETS = {"Flower": 1.0, "pfl": 1.0, "BlazeFL": 1.0, "ByzFL": 1.0}
"""Peer -> the largest time of FedSieve's round that meets the target, as a multiple of its own."""
JAX_TARGET = 2.5  # on the MLP


@dataclass
class Row:
    """What one engine did with one model; times in seconds, memory in bytes."""

    engine: str
    model: str
    processes: int
    threads: int
    error: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    rounds: list[float] = field(default_factory=list)
    median: float = math.nan
    minimum: float = math.nan
    p10: float = math.nan
    p90: float = math.nan
    first: float = math.nan
    cpu: float = math.nan
    floor: float = math.nan
    to_floor: float = math.nan
    to_fedsieve: float = math.nan
    peak_bytes: int = 0
    load: float = math.nan
    accuracy: float = math.nan


class PeerError(Exception):
    """A peer cannot be installed or did not finish; the message is one line."""


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
    rates = {cores: gemm_rates(cores, args.timeout) for cores in (1, CORES)}
    rows = []
    for model in args.models:
        for engine in engines:
            print(f"  {engine.name}, {model} ...", file=sys.stderr, flush=True)
            row = Row(engine.name, model, engine.processes, engine.threads)
            try:
                if engine.environment in broken:
                    raise PeerError(broken[engine.environment])
                measure(row, engine, args.rounds, args.timeout)
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


# Environments


def install(wanted: set[str | None]) -> dict[str | None, str]:
    """Make the environments that are missing or out of date; the errors of those that cannot be."""
    broken: dict[str | None, str] = {}
    for name in sorted(name for name in wanted if name):
        try:
            make(name)
        except PeerError as error:
            broken[name] = f"not installed: {error}"
    return broken


def make(name: str) -> None:
    """Make one environment, or do nothing if it is there."""
    environment, folder = PEERS[name], ENVIRONMENTS / name
    recipe = json.dumps([platform.python_version(), environment.needs, environment.bare])
    stamp = folder / "recipe.json"
    if stamp.exists() and stamp.read_text() == recipe:
        return
    print(f"  installing {name} into {folder} ...", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    command([sys.executable, "-m", "venv", str(folder)])
    pip = [str(python(name)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command([*pip, *environment.needs])
    if environment.bare:
        command([*pip, "--no-deps", "--ignore-requires-python", *environment.bare])
    stamp.write_text(recipe)


def command(arguments: list[str]) -> None:
    """Run an installation step.

    Raises:
        PeerError: It failed, or took too long.
    """
    try:
        done = subprocess.run(
            arguments, capture_output=True, text=True, check=False, timeout=INSTALL_LIMIT
        )
    except subprocess.TimeoutExpired as error:
        raise PeerError(f"no result within {INSTALL_LIMIT:.0f} s") from error
    if done.returncode:
        raise PeerError(last_line(done.stderr or done.stdout))


def python(environment: str | None) -> Path:
    """The interpreter of an environment."""
    return ENVIRONMENTS / environment / "bin" / "python" if environment else Path(sys.executable)


# Runs


def gemm_rates(cores: int, timeout: float) -> dict[str, float]:
    """GFLOP/s of this run's own float32 matrix products by size."""
    result, _ = run(Engine("GEMM", "gemm", threads=cores), "mlp", 1, timeout)
    rates: dict[str, float] = result["rates"]
    return rates


def measure(row: Row, engine: Engine, rounds: int, timeout: float) -> None:
    """Fill in what the engine does with the row's model."""
    result, row.peak_bytes = run(engine, row.model, rounds, timeout)
    row.load = os.getloadavg()[0]
    row.rounds, row.versions = result["seconds"], result["versions"]
    row.cpu, row.accuracy = result["cpu"], result["accuracy"]
    row.median, row.minimum, row.first = (
        statistics.median(row.rounds),
        min(row.rounds),
        row.rounds[0],
    )
    row.p10, row.p90 = (float(q) for q in np.quantile(row.rounds, [0.1, 0.9]))
    low, high = job.ACCURACY[row.model]
    if rounds == job.ROUNDS and not low <= row.accuracy <= high:
        row.error = f"accuracy {row.accuracy:.3f} is outside {low}..{high}: it did another job"


def run(engine: Engine, model: str, rounds: int, timeout: float) -> tuple[dict[str, Any], int]:
    """What the driver reports, and the largest memory of its process tree in bytes.

    Raises:
        PeerError: It failed, or took too long.
    """
    with tempfile.TemporaryDirectory() as scratch:
        out, log = Path(scratch, "result.json"), Path(scratch, "log")
        arguments = [str(python(engine.environment)), "-m", f"peers.{engine.module}"]
        arguments += ["--model", model, "--rounds", str(rounds), "--out", str(out)]
        arguments += ["--processes", str(engine.processes), "--threads", str(engine.threads)]
        threads = {f"{library}_NUM_THREADS": str(engine.threads) for library in ("OMP", "MKL")}
        variables = PEERS[engine.environment].variables if engine.environment else {}
        home = {"FLWR_HOME": scratch, "PYTHONPATH": str(HERE), "PYTHONWARNINGS": "ignore"}
        with log.open("w") as sink:
            process = subprocess.Popen(
                arguments,
                cwd=HERE,
                env=os.environ | threads | variables | home,
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
            peak = max(peak, process_tree.resident_bytes(process.pid))
            if time.monotonic() > until:
                raise PeerError(f"no result within {timeout:.0f} s")
            time.sleep(SAMPLING)
    finally:
        if process.poll() is None:
            for pid in reversed(process_tree.members(process.pid)):
                os.kill(pid, signal.SIGKILL)
            process.wait()
    return peak


def last_line(text: str) -> str:
    """The line that says what went wrong, as far as one line can."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:160] if lines else "it ended without a word"


# What is told


def compare(rows: list[Row]) -> None:
    """Fill in the ratios to FedSieve on the same model."""
    own = {row.model: row.median for row in rows if row.engine == REFERENCE.name}
    for row in rows:
        row.to_fedsieve = row.median / own.get(row.model, math.nan)


def table(rows: list[Row], rates: dict[int, dict[str, float]]) -> str:
    """The results as a Markdown table for each model."""
    lines = []
    for cores, by_size in rates.items():
        told = ", ".join(f"{size}: {rate:.0f}" for size, rate in by_size.items())
        lines.append(f"GEMM float32 on {cores} core(s), GFLOP/s by size: {told}")
    head = (
        "engine", "P x T", "ms/round", "min", "p10", "p90", "first s", "CPU ms",
        "x FedSieve", "x floor", "peak MB", "load", "accuracy",
    )  # fmt: skip
    for model in dict.fromkeys(row.model for row in rows):
        cells = [head, *(cells_of(row) for row in rows if row.model == model)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        rule = tuple("-" * width for width in widths)
        lines += ["", f"{model}, a round of {job.COHORT} clients:", ""]
        for line in (head, rule, *cells[1:]):
            padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            lines.append(f"| {' | '.join(padded)} |")
    return "\n".join(lines)


def cells_of(row: Row) -> tuple[str, ...]:
    """One line of the table."""
    milliseconds = (row.median, row.minimum, row.p10, row.p90)
    return (
        row.engine + (" (failed, see below)" if row.error else ""),
        f"{row.processes}x{row.threads}",
        *(f"{1e3 * value:.1f}" for value in milliseconds),
        f"{row.first:.2f}",
        f"{1e3 * row.cpu:.0f}",
        f"{row.to_fedsieve:.2f}",
        f"{row.to_floor:.1f}",
        f"{row.peak_bytes / 1e6:.0f}",
        f"{row.load:.1f}",
        f"{row.accuracy:.3f}",
    )


def verdicts(rows: list[Row]) -> list[str]:
    """The targets, and whether this run met them."""
    told = [""]
    for row in rows:
        if row.error:
            told.append(f"{row.engine}, {row.model}: {row.error}")
    for model in dict.fromkeys(row.model for row in rows):
        for peer in TARGETS:
            found = [r.to_fedsieve for r in rows if r.model == model and r.engine.startswith(peer)]
            best = min(found, default=math.nan)
            if not math.isnan(best):
                word = "met" if best > 1 else "MISSED"
                told.append(f"{word}: {peer} needs {best:.2f} of FedSieve's time, {model}")
        jax = [r.to_fedsieve for r in rows if r.model == model == "mlp" and "JAX" in r.engine]
        if jax and not math.isnan(jax[0]):
            word = "met" if 1 / jax[0] <= JAX_TARGET else "MISSED"
            told.append(f"{word}: FedSieve needs {1 / jax[0]:.2f} of JAX scan's time, {model}")
    return told


def write(folder: Path, rows: list[Row], rates: dict[int, dict[str, float]], rounds: int) -> None:
    """The results as JSON and as a picture."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "job": {"rounds": rounds, "flop": {model: job.flop(model) for model in job.ACCURACY}},
        "gemm_gflops": rates,
        "rows": [asdict(row) for row in rows],
    }
    (folder / "simulators.json").write_text(json.dumps(clean(facts), indent=1) + "\n")
    draw(folder / "simulators.png", rows)
    print(f"\nwritten: {folder / 'simulators.json'}, {folder / 'simulators.png'}")


def machine() -> dict[str, Any]:
    """What ran it."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": CORES,
        "system": platform.system(),
        "python": platform.python_version(),
    }


def clean(value: Any) -> Any:
    """The same with ``None`` for NaN, which JSON does not know."""
    if isinstance(value, dict):
        return {str(key): clean(item) for key, item in value.items()}
    if isinstance(value, list):
        return [clean(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def draw(path: Path, rows: list[Row]) -> None:
    """Milliseconds of a round by engine: median, 10th to 90th percentile, and the floor."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    models = list(dict.fromkeys(row.model for row in rows))
    figure, axes = plt.subplots(
        1, len(models), figsize=(5.5 * len(models), 3.8), squeeze=False, layout="constrained"
    )
    for axis, model in zip(axes[0], models, strict=True):
        shown = [row for row in rows if row.model == model and row.rounds][::-1]
        medians = np.array([1e3 * row.median for row in shown])
        spread = [
            [max(m - 1e3 * row.p10, 0) for m, row in zip(medians, shown, strict=True)],
            [max(1e3 * row.p90 - m, 0) for m, row in zip(medians, shown, strict=True)],
        ]
        colours = ["#c8553d" if "FedSieve" in row.engine else "#7d8ca3" for row in shown]
        names = [row.engine for row in shown]
        axis.barh(names, medians, xerr=spread, color=colours, ecolor="#333333", capsize=2)
        floor = 1e3 * min(row.floor for row in shown) if shown else math.nan
        axis.axvline(floor, color="black", linestyle=":", linewidth=1)
        axis.annotate(
            "2-core GEMM floor", (floor, 1), xycoords=("data", "axes fraction"),
            xytext=(2, 2), textcoords="offset points", fontsize=7,
        )  # fmt: skip
        axis.set_xscale("log")
        axis.set_xlabel(f"milliseconds per round of {job.COHORT} clients, {model.upper()}")
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
