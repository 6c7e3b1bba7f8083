"""Aggregation at scale: clients by the hundred thousand, and stacks that no memory holds.

    python benchmarks/aggregation_scale.py [--folder SCRATCH] [--small] [--out FILE]

*Clients*: `Hierarchical` on n = 10^4 .. 10^5 rows; the slope of log time against log n tells
whether it is linear. *Columns*: `aggregate_blocks` on a memory-mapped file of n = 50, d = 25.6e6
(ResNet-50; 5.1 GB, written first) for a coordinatewise and a Gram rule, with the memory beside the
pages of the file. Linux only (/proc tells the memory).
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from fedsieve.aggregation import CAF, Hierarchical, Median, TrimmedMean, aggregate_blocks

CLIENTS = (10_000, 20_000, 50_000, 100_000)
K, REPEATS = 64, 3
SLOPE = 1.1  # target: at most
EXTRA = 2 << 30  # target: at most, bytes beside the file's pages
STEP = 1 << 18  # columns written at a time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, help="where the file is written; default: a new one")
    parser.add_argument("--small", action="store_true", help="d = 256,000 in place of 25,600,000")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    found = {"clients": clients(), "columns": []}
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        found["columns"] = columns(Path(folder, "stack.npy"), 256_000 if args.small else 25_600_000)
    if args.out:
        args.out.write_text(json.dumps(found, indent=1) + "\n")


def clients() -> dict[str, object]:
    """Seconds by n, and the slope of their logarithms."""
    tree, seconds = Hierarchical(Median(f=4), size=18), []
    for n in CLIENTS:
        X = torch.from_numpy(np.random.default_rng(0).standard_normal((n, K), dtype=np.float32))
        times = []
        for seed in range(REPEATS):
            start = time.perf_counter()
            tree(X, np.random.default_rng(seed))
            times.append(time.perf_counter() - start)
        seconds.append(statistics.median(times))
        print(f"n={n:,}: {seconds[-1]:.2f} s, tolerates {tree.tolerance(n)} wherever they sit")
    slope = float(np.polyfit(np.log(CLIENTS), np.log(seconds), 1)[0])
    print(f"{'met' if slope <= SLOPE else 'MISSED'}: slope {slope:.2f} (at most {SLOPE})")
    return {"n": CLIENTS, "seconds": seconds, "slope": slope, "k": K}


def columns(path: Path, d: int, n: int = 50) -> list[dict[str, object]]:
    """Seconds and peak of anonymous memory for rules on a mapped stack."""
    X = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, d))
    rng = np.random.default_rng(0)
    for start in range(0, d, STEP):
        X[:, start : start + STEP] = rng.standard_normal(
            X[:, start : start + STEP].shape, np.float32
        )
    X.flush()
    rows = []
    for rule in (TrimmedMean(f=10), CAF(f=10)):
        blocks = Watched(X)
        start = time.perf_counter()
        aggregate_blocks(rule, blocks)
        seconds, extra = time.perf_counter() - start, blocks.peak - blocks.before
        word = "met" if extra <= EXTRA else "MISSED"
        print(f"{word}: {rule} at n={n}, d={d:,}: {seconds:.1f} s, {extra / 2**20:.0f} MiB extra")
        rows.append({"rule": repr(rule), "n": n, "d": d, "seconds": seconds, "extra": extra})
    return rows


class Watched:
    """Blocks of a mapped stack; looks at the memory after each."""

    def __init__(self, stack: np.ndarray) -> None:
        self.stack, self.peak, self.before = stack, 0, anonymous()

    def __iter__(self) -> Iterator[np.ndarray]:
        for start in range(0, self.stack.shape[1], STEP):
            yield self.stack[:, start : start + STEP]
            self.peak = max(self.peak, anonymous())


def anonymous() -> int:
    """Resident memory that is not pages of a file, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


if __name__ == "__main__":
    main()
