"""The picture of epsilon against rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from fedsieve.experiments.drawing import curve, draw, figure_of, log_if_wide, save_png


def save_curves(
    path: Path, rounds: Sequence[int], curves: Mapping[str, Sequence[float]], title: str
) -> None:
    """Write epsilon after each number of rounds, one line per setting, as a PNG.

    Args:
        path: The file.
        rounds: Numbers of rounds, increasing.
        curves: Label to epsilons, one per number of rounds.
        title: What the epsilons depend on: unit, relation, delta, sampling, accountant.
    """
    x = np.asarray(rounds, dtype=np.float64)

    def make() -> Figure:
        figure, (ax,) = figure_of(3.4)
        for label, values in curves.items():
            curve(ax, x, np.asarray(values, dtype=np.float64), label)
        log_if_wide(ax, np.concatenate([np.asarray(v, dtype=np.float64) for v in curves.values()]))
        ax.set_xlabel("rounds")
        ax.set_ylabel("epsilon")
        ax.set_title(title, fontsize=8, wrap=True)
        ax.legend()
        return figure

    drawing = draw(make)
    assert drawing is not None
    save_png(path, drawing)
