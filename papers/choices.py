"""Settings of a paper that are not known to us, tried one by one.

    python papers/choices.py 21-softmax --data-dir DIR
    python papers/choices.py 23-krum --data-dir DIR

prints a table in Markdown: test accuracy in percent on MNIST, averaged over the evaluations in the
second half of a run, because one round is partly chance where a run swings. Part of the records,
one seed, minutes. The README of the study says what follows.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import fedsieve
from fedsieve.experiments import pieces, toml
from fedsieve.learning.data import Dataset

Settings = tuple[str, ...]

RAW = {"0 .. 1": 1.0, "0 .. 255": 1 / 255}
"""Pixels that are not standardised: what divides them once they lie between 0 and 1."""


@dataclass(frozen=True)
class Table:
    """What is tried of a study.

    Args:
        file: Its configuration, in papers/.
        records: Training records.
        settings: What all runs change in it.
        rows: Scale of the pixels and step size.
        columns: What a run changes besides.
    """

    file: str
    records: int
    settings: Settings
    rows: tuple[tuple[str, float], ...]
    columns: dict[str, Settings]


TABLES = {
    "21-softmax": Table(
        file="21-softmax/softmax.toml",
        records=15_000,
        settings=("rounds=100", "evaluation.every=5", "algorithm.batch=375"),  # all of a machine
        rows=(
            ("standard", 0.1),  # those of the study
            ("standard", 1.0),
            ("0 .. 1", 0.5),
            ("0 .. 1", 1.0),
            ("0 .. 1", 2.0),
            ("0 .. 255", 0.01),
        ),
        columns={
            "mean, no attack": (
                "federation.byzantine=0",
                "attack.name=none",
                "aggregation.rule=mean",
            ),
            "mean": ("aggregation.rule=mean",),
            "median": ("aggregation.rule=median",),
            "trimmed mean": (),
        },
    ),
    "23-krum": Table(
        file="23-krum/mlp.toml",
        records=10_000,
        settings=(
            "rounds=200",
            "evaluation.every=10",
            "algorithm.batch=40",
            "federation.byzantine=7",
            "attack.name=gaussian",
            "attack.strength=200.0",
        ),
        rows=(("standard", 0.1), ("standard", 0.01), ("0 .. 1", 0.1), ("0 .. 1", 0.01)),
        columns={units: (f"model.activation={units}",) for units in ("relu", "tanh", "sigmoid")},
    ),
}


def accuracy(table: Table, data: Dataset, pixels: str, changes: Settings) -> float:
    """Test accuracy in percent, averaged over the second half of a run."""
    if pixels in RAW:
        data = replace(data, mean=0.0, std=RAW[pixels])
    config = toml.load(Path(__file__).parent / table.file, [*table.settings, *changes])
    accuracies = np.array(fedsieve.run(config, data=data).metrics["accuracy"], dtype=float)
    return 100 * float(np.nanmean(accuracies[config.rounds // 2 :]))


def main() -> None:
    """Print the table, row by row."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("study", choices=TABLES)
    parser.add_argument("--data-dir", help="where MNIST is")
    given = parser.parse_args()
    table = TABLES[given.study]
    where = [] if given.data_dir is None else [f"data.dir={given.data_dir}"]
    data = pieces.dataset(toml.load(None, ["data.name=mnist", *where]))
    data = replace(data, x=data.x[: table.records], y=data.y[: table.records])
    print("| pixels | step | " + " | ".join(table.columns) + " |")
    print("|---|---|" + "---|" * len(table.columns))
    for pixels, step in table.rows:
        cells = [
            accuracy(table, data, pixels, (f"algorithm.lr={step}", *changes))
            for changes in table.columns.values()
        ]
        shown = " | ".join(f"{cell:.1f}" for cell in cells)
        print(f"| {pixels} | {step:g} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
