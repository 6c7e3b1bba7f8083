"""How fast rules are: ours, ByzFL's, ByzPy's, and the plain products below them, in one run.

    python benchmarks/aggregation.py [--sizes 20x1000000 ...] [--threads 1 2] [--only RULE ...]

Every library works in a process of its own on the same stack of normal float32 numbers, one after
another; each process also measures `X.mean(0)`, `X @ X.T` and `w @ X`, so that a ratio never spans
two processes. f is a fifth of n. Our rules come from the registry; one that refuses the (n, f) says
so in its row, and one that needs a trusted update trusts the first row of the stack. Some meet a
stack with one NaN besides, which may cost no more memory than any other stack. A peer is left
out of stacks above 2 * 10^7 entries, which take it minutes. A complete run, of about eight minutes,
writes results/aggregation.json, .md and .png; a partial one puts its rows in the place of older
ones where --out says. Linux only (/proc tells the memory).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl
from peers._environments import PeerError, make, python

from fedsieve.aggregation import GramRule, PointRule
from fedsieve.registry import components

HERE = Path(__file__).resolve().parent
SIZES = [
    (20, 10**4),
    (20, 10**5),
    (20, 10**6),
    (20, 10**7),
    (100, 10**5),
    (100, 10**6),
    (1000, 10**4),
]
ENVIRONMENTS = {"torch": None, "fedsieve": None, "byzfl": "byzfl", "byzpy": "byzpy"}
PEER_ENTRIES = 2 * 10**7
CORES = 2
COORDINATEWISE = ("median", "trimmed-mean", "meamed")
TARGETS = {20: 3.0, 100: 12.0}  # times X.mean(0), at d >= 10^6 on two cores
PRODUCTS = 1.5  # target of rules of inner products: times X @ X.T plus w @ X, at d >= 10^6
STACKS = 1.5  # target: extra memory in stacks
FLOORS = ("X.mean(0)", "X @ X.T", "w @ X")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    names = [f"{n}x{d}" for n, d in SIZES]
    parser.add_argument("--sizes", nargs="+", choices=names, default=names)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, CORES])
    libraries = list(ENVIRONMENTS)
    parser.add_argument("--libraries", nargs="+", choices=libraries, default=libraries)
    parser.add_argument("--only", nargs="+", default=[], metavar="RULE")
    parser.add_argument("--budget", type=float, default=0.15, help="seconds of calls of a rule")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds for one process")
    parser.add_argument("--peer-timeout", type=float, default=10.0, help="the same for a peer's")
    parser.add_argument("--out", type=Path, help="folder of the results of a partial run")
    args = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    complete = args.sizes == names and args.libraries == libraries and not args.only
    folder = HERE / "results" if complete else args.out
    rows: list[dict[str, Any]] = []
    for size in args.sizes:
        n, d = map(int, size.split("x"))
        for threads in args.threads:
            for library in args.libraries:
                if ENVIRONMENTS[library] and n * d > PEER_ENTRIES:
                    continue
                found = run(library, n, d, threads, args)
                rows += found
                print("\n".join(line(row) for row in found), flush=True)
        if folder is not None:
            write(folder, rows.copy(), afresh=complete)
    print("\n".join(verdicts(rows)))


def run(
    library: str, n: int, d: int, threads: int, args: argparse.Namespace
) -> list[dict[str, Any]]:
    """The rows of one library on one stack; what was done before a timeout counts."""
    environment, where = ENVIRONMENTS[library], {"library": library, "n": n, "d": d}
    try:
        if environment:
            make(environment)
    except PeerError as error:
        return [{**where, "threads": threads, "rule": "all", "error": str(error)}]
    command = [str(python(environment)), "-m", "peers.aggregate", "--library", library]
    command += ["--n", str(n), "--d", str(d), "--f", str(n // 5), "--threads", str(threads)]
    command += ["--budget", str(args.budget), "--only", *args.only]
    limit = args.peer_timeout if environment else args.timeout
    variables = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore"}
    try:
        done = subprocess.run(
            command,
            cwd=HERE,
            env=variables,
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
        )
        told, failure = done.stdout, done.stderr.strip().rpartition("\n")[2]
        failed = done.returncode != 0
    except subprocess.TimeoutExpired as error:
        told, failure = (error.stdout or b"").decode(), f"no end within {limit:.0f} s"
        failed = True
    rows = [{**where, "threads": threads, **json.loads(text)} for text in told.splitlines()]
    if failed:
        rows.append({**where, "threads": threads, "rule": "rest", "error": failure[:160]})
    found = {row["rule"]: row["median"] for row in rows if "median" in row}
    mean, gram, combined = (found.get(name, math.nan) for name in FLOORS)
    for row in rows:
        if "median" in row:
            row["to_mean"] = row["median"] / mean
            row["to_products"] = row["median"] / (gram + combined)
            row["stacks"] = row["extra"] / (4 * n * d)
    return rows


def line(row: dict[str, Any]) -> str:
    head = f"{row['n']:5} {row['d']:9,} {row['threads']} {row['library']:9} {row['rule']:24}"
    if "error" in row:
        return f"{head} {row['error']}"
    return (
        f"{head} {1e3 * row['median']:10.2f} ms {row['to_mean']:8.2f} x mean "
        f"{row['to_products']:6.2f} x products "
        f"{row['stacks']:6.2f} stacks, first call {row['first']:.2f} s"
    )


def verdicts(rows: list[dict[str, Any]]) -> list[str]:
    """Whether the targets are met."""
    products = {
        part.name for part in components("rule") if issubclass(part.factory, GramRule | PointRule)
    }
    told = []

    def judge(row: dict[str, Any], what: str, ratio: float, limit: float) -> None:
        where = f"{row['rule']} at n={row['n']}, d={row['d']:,}, {row['threads']} thread(s)"
        word = "met" if ratio <= limit else "MISSED"
        told.append(f"{word}: {where}: {ratio:.2f} {what} (at most {limit:g})")

    for row in rows:
        if row["library"] != "fedsieve" or "median" not in row or row["d"] < 10**6:
            continue
        if row["rule"] in FLOORS:
            continue
        if row["threads"] == CORES and row["rule"] in COORDINATEWISE:
            judge(row, "x X.mean(0)", row["to_mean"], TARGETS.get(row["n"], math.inf))
        if row["rule"] in products:
            judge(row, "x (X @ X.T and w @ X)", row["to_products"], PRODUCTS)
        judge(row, "stacks extra", row["stacks"], STACKS)
    return told


def write(folder: Path, rows: list[dict[str, Any]], *, afresh: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    machine = {"cores": CORES, "machine": platform.machine(), "python": platform.python_version()}
    told = {"measured": datetime.now(UTC).isoformat(timespec="seconds"), **machine, "rows": rows}
    file = folder / "aggregation.json"
    if file.exists() and not afresh:
        measured = {place(row) for row in rows}
        old = json.loads(file.read_text())["rows"]
        rows[:0] = [row for row in old if place(row) not in measured]
    rows.sort(key=lambda row: place(row)[:3])
    file.write_text(json.dumps(told, indent=1) + "\n")
    (folder / "aggregation.md").write_text(table(rows))
    plot(folder / "aggregation.png", rows)


def table(rows: list[dict[str, Any]]) -> str:
    """Milliseconds by rule and library, one table per size, at the most threads."""
    threads = max(row["threads"] for row in rows)
    told = [f"# Aggregation, float32, {threads} threads: milliseconds (times `X.mean(0)`)"]
    for n, d in sorted({(row["n"], row["d"]) for row in rows}):
        here = [row for row in rows if (row["n"], row["d"], row["threads"]) == (n, d, threads)]
        found = {(row["rule"], row["library"]): row for row in here if "median" in row}
        libraries = [name for name in ENVIRONMENTS if any(own == name for _, own in found)]
        told += ["", f"## n = {n}, d = {d:,}", "", "| rule | " + " | ".join(libraries) + " |"]
        told.append("|---|" + "--:|" * len(libraries))
        for rule in dict.fromkeys(row["rule"] for row in here if "median" in row):
            cells = [cell(found.get((rule, library))) for library in libraries]
            told.append(f"| {rule} | " + " | ".join(cells) + " |")
    return "\n".join(told) + "\n"


def cell(row: dict[str, Any] | None) -> str:
    return "" if row is None else f"{1e3 * row['median']:.2f} ({row['to_mean']:.1f})"


def place(row: dict[str, Any]) -> tuple[Any, ...]:
    """What a row is about."""
    return row["n"], row["d"], row["threads"], row["library"]


def plot(path: Path, rows: list[dict[str, Any]]) -> None:
    """Times the mean, one panel per size, at the most threads."""
    mpl.use("agg")
    import matplotlib.pyplot as plt

    rows = [row for row in rows if "to_mean" in row and row["rule"] != FLOORS[0]]
    threads = max(row["threads"] for row in rows)
    sizes = sorted({(row["n"], row["d"]) for row in rows})
    rules = sorted({row["rule"] for row in rows}, reverse=True)
    figure, axes = plt.subplots(
        1,
        len(sizes),
        sharey=True,
        squeeze=False,
        figsize=(2.6 * len(sizes) + 2, len(rules) / 4 + 2),
    )
    for (n, d), axis in zip(sizes, axes[0], strict=True):
        here = [row for row in rows if (row["n"], row["d"], row["threads"]) == (n, d, threads)]
        for library, marker in zip(ENVIRONMENTS, "x^os", strict=True):
            own = [row for row in here if row["library"] == library]
            places = [rules.index(row["rule"]) for row in own]
            axis.plot([row["to_mean"] for row in own], places, marker, label=library)
        axis.axvline(1, color="grey", linewidth=0.8)
        axis.set(title=f"n = {n}, d = {d:,}", xscale="log", xlabel="times X.mean(0)")
        axis.set_yticks(range(len(rules)), rules)
        axis.grid(alpha=0.3)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="upper left")
    figure.suptitle(f"Aggregation, float32, {threads} threads: lower is faster")
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    main()
