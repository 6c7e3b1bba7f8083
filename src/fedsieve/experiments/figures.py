"""The figures of a report, one function each, from the files of a run directory alone.

Every function returns a `matplotlib.figure.Figure` (no global state) or ``None`` where the run has
nothing to show. Ink is one colour, which the page replaces by its own text colour, so that the same
drawing reads on white and on black. Series colours are a set that colour-blind readers can tell
apart; runs also differ by line style and malicious clients by a hatch, never by colour alone.
"""

from __future__ import annotations

import io
import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import pyarrow as pa
from cycler import cycler
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from fedsieve.experiments.run_directory import PHASES, RunDirectory

INK = "#2b2d31"
"""Colour of text and axes on paper; in the page it becomes the page's own text colour."""

COLOURS = ("#3a86c8", "#e0861a", "#17a07a", "#b569b8", "#d9566b", "#8a8f98", "#b59a14")
"""Okabe and Ito's palette in tones that hold on white and on black."""

HONEST, BYZANTINE = COLOURS[0], COLOURS[1]

STYLE: dict[Any, Any] = {
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.color": INK,
    "grid.linewidth": 0.6,
    "axes.prop_cycle": cycler(color=COLOURS)
    + cycler(linestyle=["-", "--", "-.", ":", "-", "--", "-."]),
    "lines.linewidth": 1.8,
    "hatch.linewidth": 0.6,
    "font.size": 10,
    "axes.titlesize": 10,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "text.parse_math": False,  # a run's name is no formula
    "svg.fonttype": "none",
    "svg.hashsalt": "fedsieve",
}

WIDTH = 5.6
"""Inches: a column of the page on a wide screen, the whole width of a phone."""


@dataclass(frozen=True)
class Run:
    """What the files of a run directory say, ready to be drawn."""

    directory: RunDirectory

    @cached_property
    def table(self) -> pa.Table:
        """One row per round."""
        return self.directory.metrics()

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration as nested values, as the file has them."""
        return tomllib.loads((self.directory.path / "config.toml").read_text(encoding="utf-8"))

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The final figures; empty while the run goes on."""
        return self.directory.summary()

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """Versions, seeds, data, machine."""
        return self.directory.manifest()

    @cached_property
    def partition(self) -> dict[str, Any]:
        """Records by client and class, and who is malicious."""
        return self.directory.partition()

    @property
    def label(self) -> str:
        """The run's name in legends."""
        return str(self.config.get("name") or self.directory.path.resolve().name)

    @property
    def byzantine(self) -> frozenset[int]:
        """Ids of the malicious clients."""
        return frozenset(self.partition.get("byzantine", ()))

    def column(self, name: str) -> np.ndarray:
        """A column as float64 (rounds,), NaN where a round does not have the number."""
        values = self.table.column(name).to_pylist()
        return np.array([np.nan if v is None else v for v in values], dtype=np.float64)

    def weights(self) -> np.ndarray | None:
        """Weights (rounds, clients), NaN where a client sent nothing; ``None`` without any."""
        rows = [row or [] for row in self.table.column("weights").to_pylist()]
        clients = max(map(len, rows), default=0)
        weights = np.full((len(rows), clients), np.nan)
        for round_, row in enumerate(rows):
            weights[round_, : len(row)] = row
        return weights if np.isfinite(weights).any() else None


Axis = Literal["rounds", "bits"]


def progress(runs: Sequence[Run], axis: Axis) -> Figure | None:
    """Quality and epsilon against rounds, or against what the clients have sent so far."""
    measure, name = "accuracy", "test accuracy"
    if not any(np.isfinite(run.column(measure)).any() for run in runs):
        measure, name = "loss", "test loss"
    if not any(np.isfinite(run.column(measure)).any() for run in runs):
        return None
    private = any(np.isfinite(run.column("epsilon")).any() for run in runs)
    figure, axes = _figure(2.9 + 1.5 * private, rows=2 if private else 1, ratios=[1.9, 1])
    for run in runs:
        x = _abscissa(run, axis)
        _curve(axes[0], x, run.column(measure), run.label)
        if private:
            _curve(axes[1], x, run.column("epsilon"), run.label)
    axes[0].set_ylabel(name)
    if private:
        axes[1].set_ylabel("epsilon spent")
        axes[1].set_ylim(bottom=0)
    axes[-1].set_xlabel("round" if axis == "rounds" else "megabytes sent by all clients")
    axes[-1].set_xlim(left=0)
    if len(runs) > 1:
        _legend_above(axes[0], len(runs))
    return figure


def phases(runs: Sequence[Run]) -> Figure | None:
    """Where the time went: seconds by phase of the round."""
    seconds = [[np.nansum(run.column(f"seconds_{phase}")) for phase in PHASES] for run in runs]
    if not np.sum(seconds) > 0:
        return None
    if len(runs) == 1:
        figure, (ax,) = _figure(2.6)
        total = sum(seconds[0])
        bars = ax.barh(PHASES, seconds[0], color=COLOURS[0])
        labels = [f"{s:.2f} s, {s / total:.0%}" for s in seconds[0]]
        ax.bar_label(bars, labels, padding=3, fontsize=9)
        ax.margins(x=0.25)
        ax.invert_yaxis()
    else:
        figure, (ax,) = _figure(1.5 + 0.4 * len(runs))
        left = np.zeros(len(runs))
        rows = [_shortened(run.label, 28) for run in runs]
        for i, phase in enumerate(PHASES):
            widths = np.array([s[i] for s in seconds])
            ax.barh(range(len(runs)), widths, left=left, label=phase, color=COLOURS[i])
            left += widths
        ax.set_yticks(range(len(runs)), rows)
        ax.invert_yaxis()
        _legend_above(ax, len(PHASES))
    ax.set_xlabel("seconds")
    ax.grid(axis="y", visible=False)
    return figure


def partition(run: Run) -> Figure | None:
    """Records by client and class."""
    counts = np.array(run.partition.get("counts", ()), dtype=np.float64)
    if counts.size == 0:
        return None
    classes = run.partition["classes"]
    figure, (ax,) = _figure(3.4)
    image = _heat(ax, counts.T, vmin=0)
    ax.set_xlabel("client" + (" (malicious ones marked x)" if run.byzantine else ""))
    ax.set_ylabel("class" if len(classes) > 1 else "")
    if len(classes) <= 12:
        ax.set_yticks(range(len(classes)), [_shortened(str(c), 12) for c in classes])
    for client in run.byzantine:
        _mark(ax, (client, 1.0), ("data", "axes fraction"), (0, 6))
    _bar(figure, image, ax, "records")
    return figure


def weights(run: Run) -> Figure | None:
    """The weight that the rule gave each client, averaged over the rounds."""
    values = run.weights()
    if values is None:
        return None
    mean = _column_means(values)
    clients = np.arange(len(mean))
    bad = np.isin(clients, list(run.byzantine))
    figure, (ax,) = _figure(2.8)
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
    figure, (ax,) = _figure(3.0)
    stride = max(1, len(values) // 400)
    image = _heat(ax, values[::stride].T, vmin=min(0.0, float(np.nanmin(values))))
    image.set_extent((-0.5, len(values) - 0.5, values.shape[1] - 0.5, -0.5))
    ax.set_xlabel("round")
    ax.set_ylabel("client")
    for client in run.byzantine:
        _mark(ax, (1.0, client), ("axes fraction", "data"), (5, 0))
    _bar(figure, image, ax, "weight")
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
    figure, (ax,) = _figure(2.8)
    for run in held:
        _curve(ax, run.column("round"), run.column("aggregation_error"), run.label)
    _log_if_positive(ax, np.concatenate([run.column("aggregation_error") for run in held]))
    ax.set_xlabel("round")
    ax.set_ylabel("distance to the honest mean")
    if len(held) > 1:
        _legend_above(ax, len(held))
    return figure


@dataclass(frozen=True)
class Drawing:
    """A figure as SVG to stand in a page, where it takes the page's text colour, and as PNG."""

    svg: str
    png: bytes


def draw(make: Callable[[], Figure | None]) -> Drawing | None:
    """Make a figure and draw it; ``None`` where there is nothing to show.

    matplotlib's settings are those of this module while it runs, and untouched afterwards.
    """
    vector, raster = io.StringIO(), io.BytesIO()
    with mpl.rc_context(STYLE):
        figure = make()
        if figure is None:
            return None
        figure.savefig(vector, format="svg", metadata={"Date": None}, transparent=True)
        figure.savefig(raster, format="png", dpi=160, facecolor="white")
    text = vector.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.S)
    return Drawing(text.replace(INK, "currentColor"), raster.getvalue())


def _figure(
    height: float, rows: int = 1, ratios: Sequence[float] = (1,)
) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, 1, sharex=True, height_ratios=ratios[:rows], squeeze=False)
    return figure, list(axes[:, 0])


def _abscissa(run: Run, axis: Axis) -> np.ndarray:
    if axis == "rounds":
        return run.column("round") + 1
    return np.asarray(np.nancumsum(run.column("bits_up")) / 8e6)


def _curve(ax: Axes, x: np.ndarray, y: np.ndarray, label: str) -> None:
    held = np.isfinite(y)
    marker = "o" if held.sum() <= 30 else ""
    ax.plot(x[held], y[held], marker=marker, markersize=3.5, label=_shortened(label, 30))


def _lines(
    run: Run, series: Sequence[tuple[str, np.ndarray]], ylabel: str, log: bool = False
) -> Figure | None:
    if not any(np.isfinite(values).any() for _, values in series):
        return None
    figure, (ax,) = _figure(2.8)
    for name, values in series:
        _curve(ax, run.column("round"), values, name)
    if log:
        _log_if_positive(ax, np.concatenate([values for _, values in series]))
    ax.set_xlabel("round")
    ax.set_ylabel(ylabel)
    if len(series) > 1:
        _legend_above(ax, len(series))
    return figure


def _log_if_positive(ax: Axes, values: np.ndarray) -> None:
    """A logarithmic axis where the values span more than a decade."""
    finite = values[np.isfinite(values)]
    if finite.size and finite.min() > 0 and finite.max() > 10 * finite.min():
        ax.set_yscale("log")


def _heat(ax: Axes, values: np.ndarray, vmin: float) -> Any:
    ax.grid(visible=False)
    for side in (ax.xaxis, ax.yaxis):
        side.set_major_locator(MaxNLocator(integer=True))
    shown = np.ma.masked_invalid(values)
    return ax.imshow(shown, aspect="auto", cmap="cividis", vmin=vmin, interpolation="nearest")


def _bar(figure: Figure, image: Any, ax: Axes, label: str) -> None:
    bar = figure.colorbar(image, ax=ax, pad=0.03)
    bar.outline.set_visible(False)
    bar.set_label(label)


def _mark(
    ax: Axes, where: tuple[float, float], coords: tuple[str, str], offset: tuple[int, int]
) -> None:
    """A small x at the margin of a heat map, at a malicious client's row or column."""
    ax.annotate(
        "x",
        where,
        xycoords=coords,
        xytext=offset,
        textcoords="offset points",
        ha="center",
        va="center",
        fontsize=8,
        annotation_clip=False,
    )


def _legend_above(ax: Axes, entries: int) -> None:
    columns = entries if entries <= 2 else 2 if entries <= 4 else 4
    handles, labels = ax.get_legend_handles_labels()
    ax.figure.legend(handles, labels, loc="outside upper left", ncols=columns, borderaxespad=0.2)


def _column_means(values: np.ndarray) -> np.ndarray:
    """Mean over the rounds in which the client sent something; 0 if it never did."""
    sent = np.isfinite(values)
    return np.asarray(np.where(sent, values, 0).sum(axis=0) / np.maximum(sent.sum(axis=0), 1))


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
