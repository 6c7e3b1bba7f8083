"""The project's claim in four rows: what privacy costs, what an attack costs, and what sieve saves.

All rows use the same data, rounds, epsilon, clip and expected batch, and a learning rate from one
and the same grid, chosen beforehand on other seeds and on records held back from training
(`benchmarks/learning_rates.py`, recorded in ``benchmarks/results/learning_rates.json``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedsieve.experiments import toml
from fedsieve.experiments.report import report
from fedsieve.experiments.run import run
from fedsieve.experiments.voices import Style

CLIENTS, BYZANTINE, ROUNDS, DELTA, SEED = 20, 4, 300, 1e-5, 7
DATA, EPSILON = "fashion-mnist-subset", 4.0


@dataclass(frozen=True)
class Case:
    """One row of the comparison.

    Args:
        key: Its letter.
        title: What it shows.
        algorithm: Algorithm by name.
        rule: Aggregation rule by name.
        attacked: Whether four of the twenty clients run the line-searched ALIE attack.
    """

    key: str
    title: str
    algorithm: str
    rule: str
    attacked: bool


CASES = (
    Case("a", "DP only, no attack, mean", "dshb", "mean", attacked=False),
    Case("b", "DP under attack, mean", "dshb", "mean", attacked=True),
    Case("c", "DP under attack, CAF in R^d", "dshb", "caf", attacked=True),
    Case("d", "DP under attack, sieve", "sieve", "caf", attacked=True),
)

LEARNING_RATES: dict[tuple[str, float], dict[str, float]] = {
    ("fashion-mnist-subset", 4.0): {"a": 0.5, "b": 0.25, "c": 0.5, "d": 1.0},
    ("mnist", 4.0): {"a": 2.0, "b": 1.0, "c": 2.0, "d": 4.0},
    ("mnist", 1.0): {"a": 1.0, "b": 0.5, "c": 0.5, "d": 1.0},
}
"""(Data set, epsilon) -> learning rate of each case, as `benchmarks/learning_rates.py` chose it."""


def settings(
    case: Case,
    lr: float,
    *,
    data: str = DATA,
    epsilon: float = EPSILON,
    seed: int = SEED,
    folder: str | None = None,
) -> dict[str, Any]:
    """The complete settings of a case; only a case's own four differ between cases."""
    return {
        "name": f"{case.key}: {case.title}",
        "seed": seed,
        "rounds": ROUNDS,
        "data": {"name": data, "dir": folder},
        "federation": {"clients": CLIENTS, "byzantine": BYZANTINE if case.attacked else 0},
        "attack": {"name": "alie" if case.attacked else "none"},
        "model": {"name": "mlp", "hidden": [64]},
        "algorithm": {"name": case.algorithm, "lr": lr, "momentum": 0.9},
        "aggregation": {"rule": case.rule},
        "privacy": {"epsilon": epsilon, "delta": DELTA, "clip": 1.0, "noise_seed": seed},
        "evaluation": {"every": 10},
        "checkpoint": {"every": 50},
    }


def compare(
    out: Path,
    *,
    data: str = DATA,
    epsilon: float = EPSILON,
    folder: str | None = None,
    rounds: int = ROUNDS,
    progress: Style = "auto",
    say: Callable[[str], None] = print,
) -> list[dict[str, Any]]:
    """Run the four cases, print their table and write a comparison report.

    Args:
        out: Directory for the four run directories and the report.
        data: Data set by name.
        epsilon: Record-level epsilon of every client, at delta = 1e-5.
        folder: Directory with the data set's files.
        rounds: Rounds of each case; fewer than the 300 that the learning rates were chosen for
            show how it works, not how well.
        progress: How to tell of each run.
        say: Prints a line.

    Raises:
        ConfigError: There are no learning rates for this data set and epsilon.
    """
    rates = LEARNING_RATES.get((data, epsilon))
    if rates is None:
        known = ", ".join(f"{name} at epsilon {eps:g}" for name, eps in LEARNING_RATES)
        raise toml.ConfigError(
            f"no learning rates were chosen for {data} at epsilon {epsilon:g}; there are: {known}"
        )
    summaries, directories = [], []
    for case in CASES:
        say(f"\n{case.key}. {case.title}")
        config = settings(case, rates[case.key], data=data, epsilon=epsilon, folder=folder)
        result = run(config | {"rounds": rounds}, out / case.key, progress=progress)
        assert result.directory is not None
        summaries.append(result.summary)
        directories.append(result.directory)
    say("")
    for line in table(summaries):
        say(line)
    page = report(directories, out / "report.html")
    say(f"\nreport   {page}\nfigures  {page.parent / 'figures'}")
    return summaries


def table(summaries: list[dict[str, Any]]) -> list[str]:
    """The comparison in lines of at most 80 columns; the last three say what its epsilon means."""
    lines = [f"{'':31}{'accuracy':>9}{'epsilon':>9}{'kB/client/round':>17}{'seconds':>9}"]
    for case, summary in zip(CASES, summaries, strict=True):
        kilobytes = summary["uplink_bits_per_client_round"] / 8000
        lines.append(
            f"{case.key}. {case.title:28}{100 * summary['test_accuracy']:7.1f} %"
            f"{summary['epsilon']:9.2f}{kilobytes:17.1f}{summary['seconds_total']:9.1f}"
        )
    last = summaries[-1]
    return [
        *lines,
        f"epsilon per client: one {last['privacy_unit']} ({last['neighbouring_relation']}),",
        f"delta {last['delta']:g}, Poisson sampling, {last['accountant']};",
        f"noise from {last['noise_source']} (a repeatable simulation)",
    ]
