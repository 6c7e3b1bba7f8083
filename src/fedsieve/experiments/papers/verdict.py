"""Measured against expected: one line a figure, and whether it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any, Final, Literal

from fedsieve.experiments.papers.study import Expected, Figure

HOLDS: Final = "holds"
MISSED: Final = "missed"
UNJUDGED: Final = "not judged"

Accuracies = Mapping[str, Sequence[float]]
"""Run -> test accuracy in percent, by seed."""

HEAD = ("figure", "expected", "provenance", "measured", "deviation", "allowed", "verdict")


@dataclass(frozen=True)
class Verdict:
    """What became of a figure.

    Attributes:
        says: What it is.
        expected: Its value in the source, if that has one.
        provenance: How that is known.
        measured: The mean over the seeds.
        spread: The standard deviation over the seeds; ``None`` for a single one.
        deviation: ``measured - expected``.
        allowed: Where it must lie.
        verdict: "holds", "missed" or "not judged".
    """

    says: str
    expected: float | None
    provenance: str
    measured: float
    spread: float | None
    deviation: float | None
    allowed: str
    verdict: Literal["holds", "missed", "not judged"]

    def as_dict(self) -> dict[str, Any]:
        """The verdict as plain values."""
        return asdict(self)


def judge(expected: Expected, accuracies: Accuracies, *, full: bool) -> list[Verdict]:
    """Compare every figure with what was measured.

    Args:
        expected: The figures.
        accuracies: What every run gave, for the same seeds in the same order.
        full: Whether it was the full form.
    """
    return [_judged(figure, accuracies, full) for figure in expected.figures]


def _judged(figure: Figure, accuracies: Accuracies, full: bool) -> Verdict:
    values = list(accuracies[figure.of])
    if figure.minus is not None:
        values = [a - b for a, b in zip(values, accuracies[figure.minus], strict=True)]
    measured = round(fmean(values), 2)
    bounds = figure.bounds(full=full)
    return Verdict(
        says=figure.says,
        expected=figure.expected,
        provenance=figure.provenance,
        measured=measured,
        spread=round(stdev(values), 2) if len(values) > 1 else None,
        deviation=None if figure.expected is None else round(measured - figure.expected, 2),
        allowed="" if bounds is None else str(bounds),
        verdict=UNJUDGED if bounds is None else HOLDS if bounds.hold(measured) else MISSED,
    )


def table(verdicts: Sequence[Verdict]) -> str:
    """The verdicts as aligned text, which Markdown takes for a table."""
    rows = [HEAD, *(_row(verdict) for verdict in verdicts)]
    wide = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    lines = [
        "| " + " | ".join(f"{cell:<{w}}" for cell, w in zip(row, wide, strict=True)) + " |"
        for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in wide) + "|")
    return "\n".join(lines)


def _row(verdict: Verdict) -> tuple[str, ...]:
    spread = "" if verdict.spread is None else f" +- {verdict.spread:.2f}"
    return (
        verdict.says,
        "-" if verdict.expected is None else f"{verdict.expected:g}",
        verdict.provenance,
        f"{verdict.measured:.2f}{spread}",
        "-" if verdict.deviation is None else f"{verdict.deviation:+.2f}",
        verdict.allowed or "-",
        verdict.verdict,
    )
