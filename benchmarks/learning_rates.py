"""Choose a learning rate for every row of the demo: the same small grid, seeds that it never uses.

    python benchmarks/learning_rates.py [--data-dir DIR] [--only SET]

Each case runs with every learning rate of the grid; the best mean test accuracy wins. Writes
benchmarks/results/learning_rates.json after every run, and goes on from there when it is started
again. `fedsieve.experiments.demo.LEARNING_RATES` repeats the choice; a test compares them.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path

import fedsieve
from fedsieve.experiments.demo import CASES, settings

GRID = (0.25, 0.5, 1.0, 2.0, 4.0)
JOBS = {
    "fashion-mnist-subset": ((4.0,), (101, 102)),
    "mnist": ((4.0, 1.0), (101,)),  # 10,000 test images tell learning rates apart on one seed
}
"""Data set -> the epsilons and the seeds of the search."""

RESULTS = Path(__file__).parent / "results" / "learning_rates.json"


def main() -> None:
    """Run what is missing, and write down the choices."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", help="directory with the full MNIST")
    parser.add_argument("--only", help="one data set", choices=JOBS)
    arguments = parser.parse_args()
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    tried = found.setdefault("accuracy", {})
    chosen = found.setdefault("chosen", {})
    for data, (epsilons, seeds) in JOBS.items():
        if arguments.only not in (None, data):
            continue
        folder = arguments.data_dir if data == "mnist" else None
        for epsilon, case in itertools.product(epsilons, CASES):
            name = f"{data} epsilon={epsilon:g} {case.key}"
            accuracy = tried.setdefault(name, {})
            for lr, seed in itertools.product(GRID, seeds):
                if str(seed) in accuracy.setdefault(f"{lr:g}", {}):
                    continue
                config = settings(case, lr, data=data, epsilon=epsilon, seed=seed, folder=folder)
                last = {"evaluation": {"every": config["rounds"]}}
                reached = fedsieve.run(config | last).summary["test_accuracy"]
                accuracy[f"{lr:g}"][str(seed)] = reached
                print(f"{name} lr={lr:g} seed={seed}: {reached:.4f}", flush=True)
                RESULTS.write_text(json.dumps(found, indent=1) + "\n")
            chosen[name] = max(GRID, key=lambda lr: sum(accuracy[f"{lr:g}"].values()))
            RESULTS.write_text(json.dumps(found, indent=1) + "\n")
            print(f"{name}: chosen {chosen[name]:g}", flush=True)


if __name__ == "__main__":
    main()
