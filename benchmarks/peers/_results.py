"""What a run of `simulators.py` tells: a table, the targets, a JSON file and a picture."""

from __future__ import annotations

import json
import math
import platform
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import common_job as job

CORES = 2
REFERENCE = "FedSieve, 2 workers"
SLOWER = ("Flower", "pfl", "BlazeFL", "ByzFL")
"""Target: their rounds take longer than FedSieve's, each at its best thread count."""
JAX_TARGET = 2.5
"""Target: FedSieve's round of the MLP takes at most so many times JAX's."""

MEMORY_TARGET = 1.5
"""Target: FedSieve's job takes at most so many times its records, plus its matrices."""


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
    resident_bytes: int = 0
    taken_bytes: int = 0
    allowed_bytes: int = 0
    load: float = math.nan
    accuracy: float = math.nan


def compare(rows: list[Row]) -> None:
    """Fill in the ratios to FedSieve on the same model."""
    own = {row.model: row.median for row in rows if row.engine == REFERENCE}
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
    if not row.rounds:
        return (f"{row.engine} (failed, see below)", *["-"] * 12)
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
        for peer in SLOWER:
            found = [r.to_fedsieve for r in rows if r.model == model and r.engine.startswith(peer)]
            best = min(found, default=math.nan)
            if not math.isnan(best):
                word = "met" if best > 1 else "MISSED"
                told.append(f"{word}: {peer} takes {best:.2f} times FedSieve's round, {model}")
        jax = [r.to_fedsieve for r in rows if r.model == model == "mlp" and "JAX" in r.engine]
        if jax and not math.isnan(jax[0]):
            word = "met" if 1 / jax[0] <= JAX_TARGET else "MISSED"
            told.append(f"{word}: FedSieve takes {1 / jax[0]:.2f} times JAX scan's round, {model}")
    for row in rows:
        if row.allowed_bytes:
            word = "met" if row.taken_bytes <= row.allowed_bytes else "MISSED"
            taken, allowed = (
                f"{size / 1e6:.0f} MB" for size in (row.taken_bytes, row.allowed_bytes)
            )
            told.append(
                f"{word}: {row.engine}, {row.model}: the job takes {taken}; "
                f"{MEMORY_TARGET} times its records and its matrices are {allowed}"
            )
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
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    models = list(dict.fromkeys(row.model for row in rows))
    figure, axes = plt.subplots(
        1, len(models), figsize=(5.5 * len(models), 3.8), squeeze=False, layout="constrained"
    )
    for axis, model in zip(axes[0], models, strict=True):
        shown = [row for row in rows if row.model == model and row.rounds][::-1]
        for place, row in enumerate(shown):
            colour = "#c8553d" if "FedSieve" in row.engine else "#4d5f7a"
            axis.hlines(place, 1e3 * row.p10, 1e3 * row.p90, color=colour, linewidth=2, alpha=0.5)
            axis.plot(1e3 * row.median, place, "o", color=colour)
            axis.annotate(
                f"{1e3 * row.median:.0f}", (1e3 * row.median, place), xytext=(0, 5),
                textcoords="offset points", ha="center", fontsize=7,
            )  # fmt: skip
        axis.set_yticks(range(len(shown)), [row.engine for row in shown])
        axis.margins(y=0.1)
        floor = 1e3 * min((row.floor for row in shown), default=math.nan)
        axis.axvline(floor, color="black", linestyle=":", linewidth=1)
        axis.annotate(
            f"{CORES}-core GEMM floor", (floor, 1), xycoords=("data", "axes fraction"),
            xytext=(2, 2), textcoords="offset points", fontsize=7,
        )  # fmt: skip
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_xlabel(f"milliseconds per round of {job.COHORT} clients, {model.upper()}")
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    plt.close(figure)
