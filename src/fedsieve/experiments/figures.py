"""The figures of a report, one function each, from what a run directory holds alone.

Every function returns a `matplotlib.figure.Figure`, or ``None`` where the run has nothing to show.
Malicious clients carry a hatch or a mark beside their colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from fedsieve.experiments import statement
from fedsieve.experiments.drawing import (
    COLOURS,
    INK,
    colour_bar,
    curve,
    figure_of,
    heat,
    legend_above,
    log_if_wide,
    mark,
    shortened,
)
from fedsieve.experiments.metrics import PHASES
from fedsieve.experiments.recorded import Run

HONEST, BYZANTINE = COLOURS[0], COLOURS[1]

Axis = Literal["rounds", "bits"]


def progress(runs: Sequence[Run], axis: Axis) -> Figure | None:
    """Quality and epsilon against rounds, or against what the clients have sent so far."""
    measure, name = "accuracy", " / ".join(dict.fromkeys(run.quality.full for run in runs))
    if not any(np.isfinite(run.column(measure)).any() for run in runs):
        measure, name = "loss", "test loss"
    if not any(np.isfinite(run.column(measure)).any() for run in runs):
        return None
    private = any(np.isfinite(run.column("epsilon")).any() for run in runs)
    figure, axes = figure_of(2.9 + 1.5 * private, rows=2 if private else 1, ratios=[1.9, 1])
    for run in runs:
        x = _abscissa(run, axis)
        curve(axes[0], x, run.column(measure), run.label)
        if private:
            curve(axes[1], x, run.column("epsilon"), run.label)
    axes[0].set_ylabel(name)
    if private:
        axes[1].set_ylabel("epsilon spent")
        told = sorted({statement.drawn(run.summary, run.config) for run in runs} - {""})
        axes[1].set_title("\n".join(told), fontsize=8, loc="left")
        axes[1].set_ylim(bottom=0)
    axes[-1].set_xlabel("round" if axis == "rounds" else "megabytes sent by all clients")
    axes[-1].set_xlim(left=0)
    if len(runs) > 1:
        legend_above(axes[0], len(runs))
    return figure


def phases(runs: Sequence[Run]) -> Figure | None:
    """Where the time went: seconds by phase of the round."""
    seconds = [[np.nansum(run.column(f"seconds_{phase}")) for phase in PHASES] for run in runs]
    if not np.sum(seconds) > 0:
        return None
    if len(runs) == 1:
        figure, (ax,) = figure_of(2.6)
        total = sum(seconds[0])
        bars = ax.barh(PHASES, seconds[0], color=COLOURS[0])
        labels = [f"{s:.2f} s, {s / total:.0%}" for s in seconds[0]]
        ax.bar_label(bars, labels, padding=3, fontsize=9)
        ax.margins(x=0.25)
        ax.invert_yaxis()
    else:
        figure, (ax,) = figure_of(1.5 + 0.4 * len(runs))
        left = np.zeros(len(runs))
        rows = [shortened(run.label, 28) for run in runs]
        for i, phase in enumerate(PHASES):
            widths = np.array([s[i] for s in seconds])
            ax.barh(range(len(runs)), widths, left=left, label=phase, color=COLOURS[i])
            left += widths
        ax.set_yticks(range(len(runs)), rows)
        ax.invert_yaxis()
        legend_above(ax, len(PHASES))
    ax.set_xlabel("seconds")
    ax.grid(axis="y", visible=False)
    return figure


def partition(run: Run) -> Figure | None:
    """Records by client and class."""
    counts = np.array(run.partition.get("counts", ()), dtype=np.float64)
    if counts.size == 0:
        return None
    classes = run.partition["classes"]
    figure, (ax,) = figure_of(3.4)
    image = heat(ax, counts.T, vmin=0)
    ax.set_xlabel("client" + (" (malicious ones marked x)" if run.byzantine else ""))
    ax.set_ylabel("class" if len(classes) > 1 else "")
    if len(classes) <= 12:
        ax.set_yticks(range(len(classes)), [shortened(str(c), 12) for c in classes])
    for client in run.byzantine:
        mark(ax, (client, 1.0), ("data", "axes fraction"), (0, 6))
    colour_bar(figure, image, ax, "records")
    return figure


def weights(run: Run) -> Figure | None:
    """The weight that the rule gave each client, averaged over the rounds."""
    values = run.weights()
    if values is None:
        return None
    mean = _column_means(values)
    clients = np.arange(len(mean))
    bad = np.isin(clients, list(run.byzantine))
    figure, (ax,) = figure_of(2.8)
    bars = ax.bar(clients, mean, color=np.where(bad, BYZANTINE, HONEST))
    for bar, malicious in zip(bars, bad, strict=True):
        if malicious:
            bar.set_hatch("////")
            bar.set_edgecolor(INK)
            bar.set_linewidth(0.5)
    handles: list[Artist] = [Patch(color=HONEST, label="honest")]
    if bad.any():
        handles.append(Patch(facecolor=BYZANTINE, edgecolor=INK, hatch="////", label="malicious"))
    senders = np.isfinite(values).sum(axis=1)
    fair = float(np.mean(1 / senders[senders > 0]))
    handles.append(ax.axhline(fair, color=INK, linewidth=1, linestyle=":", label="equal weights"))
    ax.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("client")
    ax.set_ylabel("mean weight")
    ax.grid(axis="x", visible=False)
    return figure


def weights_over_time(run: Run) -> Figure | None:
    """The weight of each client in each round."""
    values = run.weights()
    if values is None:
        return None
    figure, (ax,) = figure_of(3.0)
    stride = max(1, len(values) // 400)
    image = heat(ax, values[::stride].T, vmin=min(0.0, float(np.nanmin(values))))
    image.set_extent((-0.5, len(values) - 0.5, values.shape[1] - 0.5, -0.5))
    ax.set_xlabel("round")
    ax.set_ylabel("client")
    for client in run.byzantine:
        mark(ax, (1.0, client), ("axes fraction", "data"), (5, 0))
    colour_bar(figure, image, ax, "weight")
    return figure


def noise(run: Run) -> Figure | None:
    """Norms of a client's signal and of its noise, both in R^k."""
    series = [("noise", run.column("noise_norm")), ("signal", run.column("signal_norm"))]
    return _lines(run, series, "norm in R^k", log=True)


def clipped(run: Run) -> Figure | None:
    """The share of per-sample gradients that clipping shortened."""
    figure = _lines(run, [("", run.column("clipped_fraction"))], "share of gradients clipped")
    if figure is not None:
        figure.axes[0].set_ylim(-0.02, 1.02)
    return figure


def error(runs: Sequence[Run]) -> Figure | None:
    """Distance of the rule's output from the honest mean."""
    held = [run for run in runs if np.isfinite(run.column("aggregation_error")).any()]
    if not held:
        return None
    figure, (ax,) = figure_of(2.8)
    for run in held:
        curve(ax, run.column("round"), run.column("aggregation_error"), run.label)
    log_if_wide(ax, np.concatenate([run.column("aggregation_error") for run in held]))
    ax.set_xlabel("round")
    ax.set_ylabel("distance to the\nhonest mean")  # in one line it reaches the legend
    if len(held) > 1:
        legend_above(ax, len(held))
    return figure


def _abscissa(run: Run, axis: Axis) -> np.ndarray:
    if axis == "rounds":
        return run.column("round") + 1
    return np.asarray(np.nancumsum(run.column("bits_up")) / 8e6)


def _lines(
    run: Run, series: Sequence[tuple[str, np.ndarray]], ylabel: str, log: bool = False
) -> Figure | None:
    if not any(np.isfinite(values).any() for _, values in series):
        return None
    figure, (ax,) = figure_of(2.8)
    for name, values in series:
        curve(ax, run.column("round"), values, name)
    if log:
        log_if_wide(ax, np.concatenate([values for _, values in series]))
    ax.set_xlabel("round")
    ax.set_ylabel(ylabel)
    if len(series) > 1:
        legend_above(ax, len(series))
    return figure


def _column_means(values: np.ndarray) -> np.ndarray:
    """Mean over the rounds in which the client sent something; 0 if it never did."""
    sent = np.isfinite(values)
    return np.asarray(np.where(sent, values, 0).sum(axis=0) / np.maximum(sent.sum(axis=0), 1))
