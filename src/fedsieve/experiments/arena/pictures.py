"""The figures of an arena: a heat map for each f, and breakdown curves over f/n."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fedsieve.experiments.arena.board import Board, Entry
from fedsieve.experiments.arena.cell import DONE
from fedsieve.experiments.arena.tables import WORDS, WORST, figure, nothing
from fedsieve.experiments.drawing import COLOURS, INK, colour_bar, figure_of, shortened

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")
LINES = ("-", "--", "-.", ":")
GAP = 0.35  # of a column, between the attacks and the worst of them


def heat_map(board: Board, f: int) -> Figure | None:
    """Rules by attacks; each rule's worst attack is framed, and repeated in the last column."""
    columns = [*board.plan.columns]
    values = np.array([[board.entries[rule, a, f].mean for a in columns] for rule in board.rules])
    if not np.isfinite(values).any():
        return None
    drawn, (ax,) = figure_of(1.55 + 0.3 * len(board.rules))
    low = min(0.0, float(np.nanmin(values)))
    top = max(1.0, float(np.nanmax(values)))
    places = [*range(len(columns)), len(columns) + GAP]
    edges = np.array([*(x - 0.5 for x in places[:-1]), len(columns) - 0.5])
    rows = np.arange(len(board.rules) + 1) - 0.5
    shade: dict[str, Any] = {"cmap": "cividis", "vmin": low, "vmax": top}
    ax.grid(visible=False)
    image = ax.pcolormesh(edges, rows, np.ma.masked_invalid(values), **shade)
    worst = [board.worst(rule, f) for rule in board.rules]
    least = np.array([[np.nan if w is None else w.entry.mean] for w in worst])
    side = np.array([places[-1] - 0.5, places[-1] + 0.5])
    ax.pcolormesh(side, rows, np.ma.masked_invalid(least), **shade)
    for row, (rule, w) in enumerate(zip(board.rules, worst, strict=True)):
        for column, attack in enumerate(columns):
            _number(ax, board, board.entries[rule, attack, f], (column, row), (low, top))
        last = (places[-1], row)
        if w is None:
            ax.text(*last, nothing(board, rule, f), ha="center", va="center", fontsize=7.5)
        else:
            _number(ax, board, w.entry, last, (low, top))
            if f and w.attack in columns:
                _frame(ax, columns.index(w.attack), row)
    ax.set_yticks(range(len(board.rules)), [shortened(rule, 26) for rule in board.rules])
    ax.set_xticks(places, [*columns, WORST], rotation=38, ha="right", rotation_mode="anchor")
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set_xlim(-0.55, places[-1] + 0.55)
    ax.invert_yaxis()
    colour_bar(drawn, image, ax, "test accuracy" if board.task == "classification" else "R^2")
    return drawn


def _number(
    ax: Axes, board: Board, entry: Entry, place: tuple[float, float], span: tuple[float, float]
) -> None:
    low, top = span
    done = entry.state == DONE
    light = done and np.isfinite(entry.mean) and (entry.mean - low) / (top - low) > 0.55
    ax.text(
        *place,
        figure(board, entry.mean) if done else WORDS[entry.state],
        ha="center",
        va="center",
        fontsize=7.5,
        color=("#111111" if light else "#ffffff") if done else INK,
    )


def _frame(ax: Axes, column: int, row: int) -> None:
    """A frame that shows on dark and on light."""
    for width, colour in ((2.6, "#111111"), (1.2, "#ffffff")):
        box = Rectangle((column - 0.46, row - 0.44), 0.92, 0.88, fill=False, zorder=3)
        box.set_edgecolor(colour)
        box.set_linewidth(width)
        ax.add_patch(box)


def breakdown(board: Board, attack: str | None = None) -> Figure | None:
    """Quality over f/n, a line for each rule, against one attack or the worst of all.

    A line ends where the rule is not defined any more. Bars are standard errors.
    """
    if len(board.fs) < 2:
        return None
    drawn, (ax,) = figure_of(3.1 + 0.17 * ((len(board.rules) + 1) // 2))
    shown = False
    lines = cycle((m, LINES[i // len(COLOURS) % len(LINES)]) for i, m in enumerate(MARKERS))
    for number, (rule, (marker, line)) in enumerate(zip(board.rules, lines, strict=False)):
        held = [
            (f / board.clients, entry) for f in board.fs if (entry := _at(board, rule, attack, f))
        ]
        if not held:
            continue
        shown = True
        ax.errorbar(
            [share for share, _ in held],
            [entry.mean for _, entry in held],
            yerr=[entry.error or 0.0 for _, entry in held],
            label=shortened(rule, 30),
            color=COLOURS[number % len(COLOURS)],
            linestyle=line,
            linewidth=1.5,
            marker=marker,
            markersize=4.5,
            elinewidth=0.9,
            capsize=2,
        )
    if not shown:
        return None
    ax.set_xlabel("share of malicious clients, f/n")
    ax.set_ylabel("test accuracy" if board.task == "classification" else "R^2")
    if board.task == "classification":
        ax.set_ylim(0, 1.02)
    handles, labels = ax.get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside upper left", ncols=2, borderaxespad=0.2)
    return drawn


def _at(board: Board, rule: str, attack: str | None, f: int) -> Entry | None:
    if attack is None:
        worst = board.worst(rule, f)
        entry = None if worst is None else worst.entry
    else:
        entry = board.entries[rule, attack, f]
    return entry if entry is not None and entry.state == DONE else None
