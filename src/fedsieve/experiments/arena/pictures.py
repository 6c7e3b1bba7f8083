"""The figures of an arena: a heat map for each f, and breakdown curves over f/n."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fedsieve.experiments.arena.board import Board, Entry, Sample
from fedsieve.experiments.arena.cell import DONE
from fedsieve.experiments.arena.tables import WORDS, WORST, figure, nothing
from fedsieve.experiments.drawing import COLOURS, INK, colour_bar, figure_of, shortened
from fedsieve.experiments.quality import QUALITY

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")
LINES = ("-", "--", "-.", ":")
GAP = 0.35  # of a column, between the attacks and the worst of them


def heat_map(board: Board, f: int, *, success: bool = False) -> Figure | None:
    """Rules by attacks; each rule's worst attack is framed, and repeated in the last column.

    Args:
        board: The results.
        f: Number of malicious clients.
        success: Show how often the backdoors succeed, instead of the accuracy under all attacks.
    """
    columns = [*(board.backdoors if success else board.plan.columns)]
    values = np.array(
        [[_mean(board, rule, a, f, success) for a in columns] for rule in board.rules]
    )
    if not np.isfinite(values).any():
        return None
    drawn, (ax,) = figure_of(1.55 + 0.3 * len(board.rules))
    low = min(0.0, float(np.nanmin(values)))
    top = max(1.0, float(np.nanmax(values)))
    places = [*range(len(columns)), len(columns) + GAP]
    edges = np.array([*(x - 0.5 for x in places[:-1]), len(columns) - 0.5])
    rows = np.arange(len(board.rules) + 1) - 0.5
    # dark is bad: an accuracy that is low, a backdoor that succeeds
    shade: dict[str, Any] = {
        "cmap": "cividis_r" if success else "cividis",
        "vmin": low,
        "vmax": top,
    }
    ax.grid(visible=False)
    image = ax.pcolormesh(edges, rows, np.ma.masked_invalid(values), **shade)
    worst = [board.worst(rule, f, success=success) for rule in board.rules]
    least = np.array(
        [[np.nan if w is None else w.entry.sample(success=success).mean] for w in worst]
    )
    side = np.array([places[-1] - 0.5, places[-1] + 0.5])
    ax.pcolormesh(side, rows, np.ma.masked_invalid(least), **shade)
    for row, (rule, w) in enumerate(zip(board.rules, worst, strict=True)):
        for column, attack in enumerate(columns):
            entry = board.entries[rule, attack, f]
            _number(ax, board, entry, (column, row), (low, top), success=success)
        last = (places[-1], row)
        if w is None:
            missing = nothing(board, rule, f, success=success)
            ax.text(*last, missing, ha="center", va="center", fontsize=7.5)
        else:
            _number(ax, board, w.entry, last, (low, top), success=success)
            if f and w.attack in columns:
                _frame(ax, columns.index(w.attack), row)
    ax.set_yticks(range(len(board.rules)), [shortened(rule, 26) for rule in board.rules])
    ax.set_xticks(places, [*columns, WORST], rotation=38, ha="right", rotation_mode="anchor")
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set_xlim(-0.55, places[-1] + 0.55)
    ax.invert_yaxis()
    colour_bar(drawn, image, ax, _quantity(board, success))
    return drawn


def _mean(board: Board, rule: str, attack: str, f: int, success: bool) -> float:
    return board.entries[rule, attack, f].sample(success=success).mean


def _quantity(board: Board, success: bool) -> str:
    if success:
        return "attack success rate"
    return QUALITY[board.task].full


def _number(
    ax: Axes,
    board: Board,
    entry: Entry,
    place: tuple[float, float],
    span: tuple[float, float],
    *,
    success: bool,
) -> None:
    low, top = span
    done = entry.state == DONE
    share = (entry.sample(success=success).mean - low) / (top - low)
    light = done and np.isfinite(share) and (1 - share if success else share) > 0.55
    ax.text(
        *place,
        figure(board, entry.sample(success=success).mean, success=success)
        if done
        else WORDS[entry.state],
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


def breakdown(board: Board, attack: str | None = None, *, success: bool = False) -> Figure | None:
    """Quality over f/n, a line for each rule, against one attack or the worst of all.

    A line ends where the rule is not defined any more. Bars are standard errors.

    Args:
        board: The results.
        attack: The attack; ``None`` for the worst.
        success: Show how often the backdoor succeeds, instead of the accuracy.
    """
    if len(board.fs) < 2:
        return None
    drawn, (ax,) = figure_of(3.1 + 0.17 * ((len(board.rules) + 1) // 2))
    shown = False
    lines = cycle((m, LINES[i // len(COLOURS) % len(LINES)]) for i, m in enumerate(MARKERS))
    for number, (rule, (marker, line)) in enumerate(zip(board.rules, lines, strict=False)):
        held = [
            (f / board.clients, sample)
            for f in board.fs
            if (sample := _at(board, rule, attack, f, success))
        ]
        if not held:
            continue
        shown = True
        ax.errorbar(
            [share for share, _ in held],
            [sample.mean for _, sample in held],
            yerr=[sample.error or 0.0 for _, sample in held],
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
    ax.set_ylabel(_quantity(board, success))
    if board.task == "classification":
        ax.set_ylim(-0.02 if success else 0, 1.02)  # a backdoor may well fail altogether
    handles, labels = ax.get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside upper left", ncols=2, borderaxespad=0.2)
    return drawn


def _at(board: Board, rule: str, attack: str | None, f: int, success: bool) -> Sample | None:
    """The figure at a point of a curve; ``None`` where there is none."""
    if attack is None:
        worst = board.worst(rule, f, success=success)
        entry = None if worst is None else worst.entry
    else:
        entry = board.entries[rule, attack, f]
    if entry is None or not entry.sample(success=success).values:
        return None
    return entry.sample(success=success)
