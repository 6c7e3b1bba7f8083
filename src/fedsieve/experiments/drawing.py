"""How the figures of a report look, and how they become pictures.

Ink is one colour, which the page replaces by its own text colour, so that the same drawing reads on
white and on black. Series colours are a set that colour-blind readers can tell apart; lines also
differ by style, never by colour alone.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from fedsieve.experiments.files import atomically

INK = "#2b2d31"
"""Colour of text and axes on paper; in the page it becomes the page's own text colour."""

COLOURS = ("#3a86c8", "#e0861a", "#17a07a", "#b569b8", "#d9566b", "#8a8f98", "#b59a14")
"""Okabe and Ito's palette in tones that hold on white and on black."""

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
class Drawing:
    """A figure as SVG to stand in a page, where it takes the page's text colour, and as PNG."""

    svg: str
    png: bytes


def draw(make: Callable[[], Figure | None]) -> Drawing | None:
    """Make a figure and draw it; ``None`` where there is nothing to show.

    matplotlib's settings are those of this module while it runs, and untouched afterwards.
    """
    vector, raster = io.StringIO(), io.BytesIO()
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a name in a script we cannot draw
        figure = make()
        if figure is None:
            return None
        figure.savefig(vector, format="svg", metadata={"Date": None}, transparent=True)
        figure.savefig(raster, format="png", dpi=160, facecolor="white")
    text = vector.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.S)
    return Drawing(text.replace(INK, "currentColor"), raster.getvalue())


def save_png(file: Path, drawing: Drawing) -> None:
    """Write a figure as PNG."""
    atomically(file, lambda path: path.write_bytes(drawing.png))


def figure_of(
    height: float, rows: int = 1, ratios: Sequence[float] = (1,)
) -> tuple[Figure, list[Axes]]:
    """An empty figure of the page's width, with its axes from top to bottom."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, 1, sharex=True, height_ratios=ratios[:rows], squeeze=False)
    return figure, list(axes[:, 0])


def curve(ax: Axes, x: np.ndarray, y: np.ndarray, label: str) -> None:
    """A line through the values that exist; marked where they are few."""
    held = np.isfinite(y)
    marker = "o" if held.sum() <= 30 else ""
    ax.plot(x[held], y[held], marker=marker, markersize=3.5, label=shortened(label, 30))


def log_if_wide(ax: Axes, values: np.ndarray) -> None:
    """A logarithmic axis where the values span more than a decade."""
    finite = values[np.isfinite(values)]
    if finite.size and finite.min() > 0 and finite.max() > 10 * finite.min():
        ax.set_yscale("log")
        # the usual labels are formulas, which are switched off
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())


def heat(ax: Axes, values: np.ndarray, vmin: float) -> Any:
    """A heat map; what is missing stays blank."""
    ax.grid(visible=False)
    for side in (ax.xaxis, ax.yaxis):
        side.set_major_locator(MaxNLocator(integer=True))
    shown = np.ma.masked_invalid(values)
    return ax.imshow(shown, aspect="auto", cmap="cividis", vmin=vmin, interpolation="nearest")


def colour_bar(figure: Figure, image: Any, ax: Axes, label: str) -> None:
    """The scale beside a heat map."""
    bar = figure.colorbar(image, ax=ax, pad=0.03)
    bar.outline.set_visible(False)
    bar.set_label(label)


def mark(
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


def legend_above(ax: Axes, entries: int) -> None:
    """The names of the lines, above the axes and never over the data."""
    columns = entries if entries <= 2 else 2 if entries <= 4 else 4
    handles, labels = ax.get_legend_handles_labels()
    ax.figure.legend(handles, labels, loc="outside upper left", ncols=columns, borderaxespad=0.2)


def shortened(text: str, length: int) -> str:
    """The text, cut to a length."""
    return text if len(text) <= length else text[: length - 1] + "…"
