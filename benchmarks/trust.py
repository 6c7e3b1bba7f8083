"""What the element of trust is worth: accuracy at equal epsilon under three kinds of noise.

    python benchmarks/trust.py [--data-dir DIR] [--only none alie] [--out FOLDER]

20 clients with 500 records of MNIST each (of the embedded subset of Fashion-MNIST where MNIST is
not found), a softmax model, DSHB for 100 rounds, record level, delta 1e-5, add-remove. Each kind of
noise is calibrated to epsilon = 1, 2, 4 and 8:

* local: every client adds all of its noise; rule CAF with f = 4;
* correlated (CafCor): the clients share noise that cancels in their mean; rule CAF with f = 4, the
  statement holds against the server and 4 colluding clients;
* central: the server adds the noise; the rule has to be the mean, and the server to be trusted.

In the case "none" everybody follows the protocol, and the 4 colluders only listen. In the case
"alie" 4 of the 20 clients attack. The learning rate of every cell is chosen from a grid on a seed
of its own, on training records that no client holds; the seeds of the table are other ones.

Writes results/trust.json (after every cell), trust.md and trust.png.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np

import fedsieve
from fedsieve.learning.datasets import load

KINDS = {"local": "local", "distributed": "correlated (CafCor)", "central": "central"}
EVERYBODY = "everybody who sees the messages, the server included"
EPSILONS = (1.0, 2.0, 4.0, 8.0)
RATES = (0.25, 1.0)
SEEDS, TUNING_SEED = (0, 1, 2), 100
N, F, RECORDS, ROUNDS, BATCH = 20, 4, 500, 100, 50


def records(folder):
    """MNIST, or what is there without it."""
    try:
        return load("mnist", folder)
    except ValueError:
        return load("fashion-mnist")


def accuracy(data, trust, epsilon, rate, attack, seed, *, held_back=False):
    """Test accuracy of one run, or that on 2000 training records which no client holds."""
    order = np.random.default_rng(seed).permutation(len(data.y))
    used = min(N * RECORDS, len(order) - 2000 * held_back) // N * N
    if held_back:
        data = replace(data, x_test=data.x[order[-2000:]], y_test=data.y[order[-2000:]])
    privacy = {"epsilon": epsilon, "trust": trust, "noise_seed": seed}
    if trust == "distributed":
        privacy["colluders"] = F
    config = {
        "seed": seed,
        "rounds": ROUNDS,
        "model": {"name": "softmax"},
        "federation": {"clients": N, "byzantine": F if attack != "none" else 0},
        "attack": {"name": attack},
        "algorithm": {"name": "dshb", "lr": rate, "batch": BATCH},
        "aggregation": {"rule": "mean"} if trust == "central" else {"rule": "caf", "f": F},
        "privacy": privacy,
        "checkpoint": {"every": 0},
        "evaluation": {"every": ROUNDS},
    }
    parts = order[:used].reshape(N, -1)
    return fedsieve.run(config, data=data, parts=list(parts)).summary


def cell(data, trust, epsilon, attack):
    """The chosen learning rate, and what it gives on the seeds."""
    tried = {
        rate: accuracy(data, trust, epsilon, rate, attack, TUNING_SEED, held_back=True)[
            "test_accuracy"
        ]
        for rate in RATES
    }
    rate = max(tried, key=tried.get)
    runs = [accuracy(data, trust, epsilon, rate, attack, seed) for seed in SEEDS]
    return {
        "lr": rate,
        "tuning": {str(rate): value for rate, value in tried.items()},
        "accuracy": [run["test_accuracy"] for run in runs],
        "epsilon": [run["epsilon"] for run in runs],
        "noise_multiplier": runs[0]["noise_multiplier"],
        # A summary under local trust has no such key.
        "holds_against": runs[0].get("holds_against", EVERYBODY),
    }


def epsilon_at(cells, wanted):
    """Epsilon at which the mean accuracy reaches a value, by interpolation in log epsilon."""
    points = [(e, statistics.mean(cells[f"{e:g}"]["accuracy"])) for e in EPSILONS]
    if points[0][1] >= wanted:
        return f"<= {points[0][0]:g}"
    for (e, a), (e_next, a_next) in itertools.pairwise(points):
        if a < wanted <= a_next:
            share = (wanted - a) / (a_next - a)
            return f"{np.exp((1 - share) * np.log(e) + share * np.log(e_next)):.2g}"
    return f"> {points[-1][0]:g}"


def markdown(found):
    """The tables."""
    setting = (
        f"{found['data']}; {N} clients, f = {F}, {found['records']} records each, softmax, DSHB, "
        f"{ROUNDS} rounds, delta 1e-5 (unit record, add-remove, Poisson sampling, PLD). Accuracy "
        f"in % as mean ± standard deviation over seeds {', '.join(map(str, SEEDS))}; learning "
        f"rates from {', '.join(f'{rate:g}' for rate in RATES)}, chosen on another seed and on "
        "records that no client holds."
    )
    lines = ["# Local, correlated and central noise", "", setting]
    for attack, table in found["attacks"].items():
        if any(len(cells) < len(EPSILONS) for cells in table.values()) or len(table) < len(KINDS):
            continue
        what = "nobody attacks" if attack == "none" else f"{F} of {N} clients attack: {attack}"
        reached = statistics.mean(table["local"]["8"]["accuracy"])
        lines += ["", f"## {what}", ""]
        shown = [f"epsilon {e:g}" for e in EPSILONS]
        at = f"epsilon for {100 * reached:.1f} %"
        lines += [f"| noise | holds against | {' | '.join(shown)} | {at} |", "|---" * 7 + "|"]
        for trust, name in KINDS.items():
            cells = table[trust]
            values = [cells[f"{e:g}"]["accuracy"] for e in EPSILONS]
            shown = [f"{100 * np.mean(a):.1f} ± {100 * np.std(a, ddof=1):.1f}" for a in values]
            against = cells["1"]["holds_against"]
            lines += [
                f"| {name} | {against} | {' | '.join(shown)} | {epsilon_at(cells, reached)} |"
            ]
    return lines


def plot(found, path):
    """Accuracy against epsilon, a panel for each case."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    whole = [a for a, table in found["attacks"].items() if len(table) == len(KINDS)]
    figure, axes = plt.subplots(
        1, len(whole), figsize=(4.2 * len(whole), 3.4), squeeze=False, sharey=True
    )
    for ax, attack in zip(axes[0], whole, strict=True):
        for trust, marker in zip(KINDS, "osD", strict=True):
            cells = found["attacks"][attack][trust]
            held = [e for e in EPSILONS if f"{e:g}" in cells]
            values = [[100 * a for a in cells[f"{e:g}"]["accuracy"]] for e in held]
            middle, spread = np.mean(values, axis=1), np.std(values, axis=1, ddof=1)
            ax.errorbar(held, middle, spread, marker=marker, capsize=3, label=KINDS[trust])
        ax.set_xscale("log", base=2)
        ax.set_xticks(EPSILONS, [f"{e:g}" for e in EPSILONS])
        ax.set_xlabel("epsilon (record, add-remove,\ndelta 1e-5, Poisson sampling)")
        ax.set_title("nobody attacks" if attack == "none" else f"{F} of {N} attack: {attack}")
    axes[0][0].set_ylabel("test accuracy, %")
    axes[0][0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main():
    """Run everything, and write it down."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data-dir", type=Path, help="directory with MNIST")
    parser.add_argument("--only", nargs="+", choices=("none", "alie"), default=("none", "alie"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    data = records(arguments.data_dir)
    held = min(N * RECORDS, len(data.y)) // N
    found = {"data": data.name, "records": held, "load": [os.getloadavg()[0]], "attacks": {}}
    file = arguments.out / "trust.json"
    if file.exists() and (before := json.loads(file.read_text()))["data"] == data.name:
        found["attacks"] = before["attacks"]  # of cases that are not run again
    for attack in arguments.only:
        table = found["attacks"][attack] = {}
        for trust in KINDS:
            for epsilon in EPSILONS:
                done = cell(data, trust, epsilon, attack)
                table.setdefault(trust, {})[f"{epsilon:g}"] = done
                print(
                    f"{attack} {trust} {epsilon:g}: {done['accuracy']} lr {done['lr']}", flush=True
                )
                found["load"] = [found["load"][0], os.getloadavg()[0]]
                file.write_text(json.dumps(found, indent=1) + "\n")
        (arguments.out / "trust.md").write_text("\n".join(markdown(found)) + "\n")
        plot(found, arguments.out / "trust.png")


if __name__ == "__main__":
    main()
