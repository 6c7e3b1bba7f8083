"""The demo's four cases on the embedded subset and on full MNIST, three seeds each.

    python benchmarks/main_job.py [--data-dir DIR] [--only SET]

Writes benchmarks/results/main_job.json and main_job.md, and puts the table that `make demo` prints
(the first seed on the embedded subset) into README.md, so that no figure there is typed by hand.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from statistics import mean, stdev

import fedsieve
from fedsieve.experiments.demo import (
    BYZANTINE,
    CASES,
    CLIENTS,
    LEARNING_RATES,
    ROUNDS,
    SEED,
    settings,
    table,
)

SEEDS = (SEED, SEED + 1, SEED + 2)
ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "main_job.json"
KEPT = (
    "test_accuracy",
    "test_loss",
    "epsilon",
    "delta",
    "privacy_unit",
    "neighbouring_relation",
    "accountant",
    "noise_multiplier",
    "noise_source",
    "dimension",
    "message_dimension",
    "uplink_bits_per_client_round",
    "seconds_total",
    "peak_memory_bytes",
)


def main() -> None:
    """Run everything, and write it down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", help="directory with the full MNIST")
    parser.add_argument("--only", help="one data set")
    arguments = parser.parse_args()
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for (data, epsilon), rates in LEARNING_RATES.items():
        if arguments.only not in (None, data):
            continue
        folder = arguments.data_dir if data == "mnist" else None
        name = f"{data}, epsilon {epsilon:g}"
        load = os.getloadavg()[0]
        cases = {}
        for case in CASES:
            runs = []
            for seed in SEEDS:
                config = settings(
                    case, rates[case.key], data=data, epsilon=epsilon, seed=seed, folder=folder
                )
                summary = fedsieve.run(config).summary
                runs.append({"seed": seed} | {key: summary[key] for key in KEPT})
                print(f"{name} {case.key} seed {seed}: {summary['test_accuracy']:.4f}", flush=True)
            cases[case.key] = {"lr": rates[case.key], "runs": runs}
        found[name] = {"load_before": load, "load_after": os.getloadavg()[0], "cases": cases}
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    RESULTS.with_suffix(".md").write_text("\n".join(_markdown(found)) + "\n")
    _into_readme(found)


def _markdown(found: dict) -> list[str]:
    told = " ".join(table(_first(found))[-3:-1]).rstrip(";") + "."
    lines = [
        "# The main job",
        "",
        f"Printed by `python benchmarks/main_job.py --data-dir DIR`: {ROUNDS} rounds, {CLIENTS} "
        f"clients of which {BYZANTINE} attack (not in a), seeds {SEEDS}; accuracy as mean ± "
        "standard deviation. What every epsilon on this page means: " + told,
        "",
    ]
    for name, job in found.items():
        lines += [
            f"## {name}",
            "",
            "| case | learning rate | accuracy, % | epsilon | kB/client/round | seconds |",
            "|---|---|---|---|---|---|",
        ]
        for case in CASES:
            held = job["cases"][case.key]
            accuracy = [100 * run["test_accuracy"] for run in held["runs"]]
            last = held["runs"][-1]
            lines.append(
                f"| {case.key}. {case.title} | {held['lr']:g} | {mean(accuracy):.1f} ± "
                f"{stdev(accuracy):.1f} | {last['epsilon']:.2f} | "
                f"{last['uplink_bits_per_client_round'] / 8000:.1f} | "
                f"{mean(run['seconds_total'] for run in held['runs']):.1f} |"
            )
        lines.append("")
    return lines


def _first(found: dict) -> list[dict]:
    """The summaries of the demo itself."""
    first = next(iter(found.values()))
    return [first["cases"][case.key]["runs"][0] for case in CASES]


def _into_readme(found: dict) -> None:
    summaries = _first(found)
    readme = ROOT / "README.md"
    head, rest = readme.read_text().split("<!-- demo-table:start -->")
    _, tail = rest.split("<!-- demo-table:end -->")
    shown = "\n".join(["<!-- demo-table:start -->", "```text", *table(summaries), "```", ""])
    readme.write_text(head + shown + "<!-- demo-table:end -->" + tail)


if __name__ == "__main__":
    main()
