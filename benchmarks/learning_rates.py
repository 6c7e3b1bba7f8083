"""Choose the demo's learning rates and sieve's share of frequencies without the test set.

    python benchmarks/learning_rates.py [--data-dir DIR] [--only SET]

A tenth of the training records is held back; nothing here sees the test set. Each case runs with
every learning rate of the grid on the other nine tenths, and the best mean accuracy on the tenth
wins. Sieve does so with several shares of the cosine frequencies on the embedded data set: the
smallest message within one standard error of the best wins, and is the library's default
(`fedsieve.compression.projections.dct.SHARE`). Writes
benchmarks/results/learning_rates.json after every run, and goes on from there when it is started
again. `fedsieve.experiments.demo.LEARNING_RATES` repeats the choice; a test compares them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

import fedsieve
from fedsieve.compression.projections.dct import SHARE
from fedsieve.experiments.demo import CASES, EPSILON, Case, settings
from fedsieve.learning.data import Dataset
from fedsieve.learning.datasets import load

GRID = (0.25, 0.5, 1.0, 2.0, 4.0)
SHARES = (6, 12, 24)
"""One in so many frequencies is kept."""
JOBS = {
    "fashion-mnist-subset": ((4.0,), (101, 102)),
    "mnist": ((4.0, 1.0), (101,)),  # 6,000 images tell learning rates apart on one seed
}
"""Data set -> the epsilons and the seeds of the search."""

RESULTS = Path(__file__).parent / "results" / "learning_rates.json"


def main() -> None:
    """Run what is missing, and write down the choices."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data-dir", help="directory with the full MNIST")
    parser.add_argument("--only", help="one data set", choices=JOBS)
    arguments = parser.parse_args()
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    chosen = found.setdefault("chosen", {})
    for name, (epsilons, seeds) in JOBS.items():
        if arguments.only not in (None, name):
            continue
        data = validated(load(name, arguments.data_dir if name == "mnist" else None))
        for epsilon, case in itertools.product(epsilons, CASES):
            shares = SHARES if (case.key, name, epsilon) == ("d", *DEFAULT) else (SHARE,)
            best: dict[int, tuple[float, float]] = {}  # share -> mean accuracy, learning rate
            for share in shares:
                key = f"{name} epsilon={epsilon:g} {case.key}"
                key += f" share=1/{share}" if len(shares) > 1 else ""
                accuracy = found.setdefault("validation accuracy", {}).setdefault(key, {})
                for lr, seed in itertools.product(GRID, seeds):
                    seen = accuracy.setdefault(f"{lr:g}", {})
                    if str(seed) in seen:
                        continue
                    seen[str(seed)] = reached = run(case, lr, epsilon, seed, share, data)
                    print(f"{key} lr={lr:g} seed={seed}: {reached:.4f}", flush=True)
                    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
                best[share] = max((mean(accuracy[f"{lr:g}"].values()), lr) for lr in GRID)
            top = max(reached for reached, _ in best.values())
            error = math.sqrt(top * (1 - top) / (len(seeds) * len(data.y_test)))
            winner = max(share for share in shares if best[share][0] >= top - error)
            if len(shares) > 1:
                found["chosen share"] = winner
            chosen[f"{name} epsilon={epsilon:g} {case.key}"] = best[winner][1]
            RESULTS.write_text(json.dumps(found, indent=1) + "\n")
            print(f"{name} epsilon={epsilon:g} {case.key}: {best[winner][1]:g}", flush=True)


DEFAULT = ("fashion-mnist-subset", EPSILON)


def validated(data: Dataset) -> Dataset:
    """The data with a tenth of its training records, drawn at random, in place of its test set."""
    order = np.random.default_rng(101).permutation(len(data.y))
    held, kept = order[: len(order) // 10], order[len(order) // 10 :]
    return replace(data, x=data.x[kept], y=data.y[kept], x_test=data.x[held], y_test=data.y[held])


def run(case: Case, lr: float, epsilon: float, seed: int, share: int, data: Dataset) -> float:
    """The accuracy that a case reaches on the records held back."""
    config: dict[str, Any] = settings(case, lr, epsilon=epsilon, seed=seed)
    config["evaluation"] = {"every": config["rounds"]}
    if case.algorithm == "sieve":
        pixels, hidden = data.x[0].numel(), config["model"]["hidden"][0]
        others = hidden + (hidden + 1) * data.classes
        config["projection"] = {"name": "dct", "k": others + hidden * (pixels // share)}
    reached: float = fedsieve.run(config, data=data).summary["test_accuracy"]
    return reached


if __name__ == "__main__":
    main()
