"""What the first call costs a process that finds no compiled kernel: every rule, and compositions.

    python benchmarks/first_call.py [--only RULE ...] [--sizes 20x1000 20x1000000]

Each call is the first of a fresh process whose numba has an empty cache. fedsieve and torch are
imported before the clock starts; numba is not, so that its import counts where a call wants it (it
is measured once, by itself). Later calls tell when kernels were compiled, and what that cost: there
are eight, the dearest and the last of which are told. f is a fifth of n. The target: no first call
above 2 s. A complete run, of about five minutes, writes results/first_call.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

SIZES = ("20x1000", "20x1000000")
PRES = ("nnm", "bucketing", "clipping", "arc")
BEHIND = ("median", "trimmed-mean", "meamed", "caf", "krum", "geometric-median")
CORES = 2
TARGET = 2.0  # seconds
LATER = 8  # calls
VARIED = ("median", "krum", "nnm >> trimmed-mean", "nnm >> krum")  # tell for all what others cost
VARIANTS = [("float64", "tensor"), ("float32", "array"), ("float32", "weighted")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="RULE")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=SIZES)
    parser.add_argument("--call", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.call:
        print(json.dumps(measure(*args.call)))
        return
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    imported = import_of_numba()
    print(f"import numba: {imported:.2f} s")
    rows = []
    for size in args.sizes:
        for name, kind, way in cases(args.only):
            rows.append(first_call(name, size, kind, way))
            print(line(rows[-1]), flush=True)
    told = [row for row in rows if "first" in row]
    worst = max(told, key=lambda row: row["first"])
    word = "met" if worst["first"] <= TARGET else "MISSED"
    print(f"{word}: the dearest first call of {len(told)} (at most {TARGET:g} s): {line(worst)}")
    if not args.only and tuple(args.sizes) == SIZES:
        found = {"measured": datetime.now(UTC).isoformat(timespec="seconds"), "cores": CORES}
        found |= {"load": os.getloadavg()[0], "import_numba": imported, "rows": rows}
        path = Path(__file__).parent / "results" / "first_call.json"
        path.write_text(json.dumps(found, indent=1) + "\n")


def cases(only: list[str] | None) -> list[tuple[str, str, str]]:
    """Rule, dtype and way of every call."""
    from fedsieve.registry import components

    names = [part.name for part in components("rule")]
    names += [f"{pre} >> {rule}" for pre in PRES for rule in BEHIND]
    found = [(name, "float32", "tensor") for name in names]
    found += [(name, *variant) for name in VARIED for variant in VARIANTS]
    return [case for case in found if not only or case[0] in only]


def first_call(name: str, size: str, kind: str, way: str) -> dict[str, Any]:
    """One row."""
    with tempfile.TemporaryDirectory() as cache:
        done = subprocess.run(
            [sys.executable, __file__, "--call", name, size, kind, way],
            env={**os.environ, "NUMBA_CACHE_DIR": cache, "OMP_NUM_THREADS": str(CORES)},
            capture_output=True,
            text=True,
            check=False,
        )
    row = {"rule": name, "size": size, "dtype": kind, "way": way}
    if done.returncode:
        return row | {"error": done.stderr.strip().rpartition("\n")[2][:120]}
    return row | json.loads(done.stdout)


def import_of_numba() -> float:
    """Seconds, where numpy is there already."""
    code = (
        "import time, numpy; s = time.perf_counter(); import numba; print(time.perf_counter() - s)"
    )
    return float(subprocess.check_output([sys.executable, "-c", code], text=True))


def measure(name: str, size: str, kind: str, way: str) -> dict[str, Any]:
    """Seconds of the first call and of later ones, in this process."""
    import numpy as np
    import torch

    from fedsieve.aggregation import _compiled
    from fedsieve.registry import component

    n, k = map(int, size.split("x"))
    X = np.random.default_rng(0).standard_normal((n, k)).astype(kind)
    stack = X if way == "array" else torch.from_numpy(X)
    weights = np.linspace(1.0, 1.2, n) if way == "weighted" else None
    *pre, last = name.split(" >> ")
    part = component("rule", last).build(f=n // 5)
    rule = component("pre-aggregator", pre[0]).build(f=n // 5) >> part if pre else part
    rule = rule.trusting(X[0]) if rule.needs_root else rule

    def compiled() -> list[str]:
        return [kernel.body.__name__ for kernel in _compiled._loaded]

    start, busy = time.perf_counter(), time.process_time()
    rule(stack, weights)
    first, cpu = time.perf_counter() - start, time.process_time() - busy
    compiled_at_first = compiled()
    later = []
    for _ in range(LATER):
        start = time.perf_counter()
        rule(stack, weights)
        later.append(time.perf_counter() - start)
    return {
        "first": first,
        "cpu": cpu,
        "kernels": compiled_at_first,
        "dearest": max(later),
        "last": later[-1],
        "all_kernels": compiled(),
    }


def line(row: dict[str, Any]) -> str:
    head = f"{row['rule']:30} {row['size']:10} {row['dtype']} {row['way']:8}"
    if "error" in row:
        return f"{head} {row['error']}"
    first = f"{row['first']:5.2f} s ({row['cpu']:.2f} of CPU; compiled: {len(row['kernels'])})"
    later = f"later at most {row['dearest']:.2f} s, at last {row['last']:.4f} s"
    return f"{head} {first}, {later} (compiled: {len(row['all_kernels'])})"


if __name__ == "__main__":
    main()
