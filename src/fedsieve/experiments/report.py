"""The report page: one file that opens offline, and the same figures as PNG.

The page is made from what run directories hold, never from live objects, so it can be made again at
any time, for one run or as a comparison of several.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import tomli_w
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from fedsieve._version import __version__
from fedsieve.experiments import figures, readable, statement
from fedsieve.experiments.drawing import draw, save_png
from fedsieve.experiments.files import refuse_other_ending, write_text
from fedsieve.experiments.recorded import Run
from fedsieve.experiments.run_directory import RunDirectory


@dataclass(frozen=True)
class Panel:
    """A figure of the page: its file name, its title, what it shows, and how it is drawn."""

    name: str
    title: str
    text: str
    make: Callable[[], Figure | None]


def report(directories: Sequence[Path | str], out: Path | str | None = None) -> Path:
    """Write the report of one run, or a comparison of several.

    Args:
        directories: Run directories; a run that is not finished shows what it has so far.
        out: The page to write, ending in .html or .htm. By default ``report.html`` in the run
            directory, for several runs in their common parent.

    Returns:
        The page that was written; its figures lie as PNG in ``figures/`` beside it.

    Raises:
        ConfigError: A directory holds no run, or ``out`` is no such file.
        ValueError: No directory was given.
    """
    if out is not None:
        refuse_other_ending(Path(out), ".html", ".htm")
    if not directories:
        raise ValueError("directories=[]: a report needs at least one run")
    runs = [Run(RunDirectory.open(path)) for path in directories]
    page = Path(out) if out is not None else _place([run.directory.path for run in runs])
    panels = _single(runs[0]) if len(runs) == 1 else _comparison(runs)
    shown = []
    for panel in panels:
        drawing = draw(panel.make)
        if drawing is not None:
            save_png(page.parent / "figures" / f"{panel.name}.png", drawing)
            shown.append((panel, Markup(drawing.svg)))  # noqa: S704 - its texts are escaped
    write_text(page, _render(runs, shown))
    return page


def _place(paths: Sequence[Path]) -> Path:
    if len(paths) == 1:
        return paths[0] / "report.html"
    return Path(os.path.commonpath([path.resolve().parent for path in paths])) / "report.html"


def _single(run: Run) -> list[Panel]:
    return [
        *_progress([run]),
        Panel(
            "weights",
            "Whom the rule trusted",
            "Weight of each client's message in the aggregate, averaged over the rounds.",
            partial(figures.weights, run),
        ),
        Panel(
            "weights_over_time",
            "Trust over time",
            "The same weights round by round; malicious clients are marked x.",
            partial(figures.weights_over_time, run),
        ),
        Panel(
            "noise",
            "Signal and noise",
            "Norms of a client's averaged gradient and of its privacy noise, in the message space.",
            partial(figures.noise, run),
        ),
        Panel(
            "clipped",
            "Clipping",
            "Share of the per-sample gradients that were shortened to the clip.",
            partial(figures.clipped, run),
        ),
        Panel(
            "aggregation_error",
            "Aggregation error",
            "Distance of the rule's output from the mean of the honest messages.",
            partial(figures.error, [run]),
        ),
        Panel(
            "partition",
            "Who holds what",
            "Training records by client and class.",
            partial(figures.partition, run),
        ),
        Panel(
            "phases",
            "Where the time went",
            "Seconds of the whole run by phase of the round.",
            partial(figures.phases, [run]),
        ),
    ]


def _comparison(runs: Sequence[Run]) -> list[Panel]:
    return [
        *_progress(runs),
        Panel(
            "aggregation_error",
            "Aggregation error",
            "Distance of the rule's output from the mean of the honest messages.",
            partial(figures.error, runs),
        ),
        Panel(
            "phases",
            "Where the time went",
            "Seconds of each run by phase of the round.",
            partial(figures.phases, runs),
        ),
    ]


def _progress(runs: Sequence[Run]) -> list[Panel]:
    private = any(run.config.get("privacy") for run in runs)
    quality = "Quality on the test set" + (", and the epsilon spent so far." if private else ".")
    return [
        Panel("progress_by_round", "By round", quality, partial(figures.progress, runs, "rounds")),
        Panel(
            "progress_by_bits",
            "By communication",
            "The same against everything that the clients have sent so far.",
            partial(figures.progress, runs, "bits"),
        ),
    ]


def _render(runs: Sequence[Run], shown: Sequence[tuple[Panel, Markup]]) -> str:
    page = templates().get_template("report.html.jinja")
    return page.render(
        version=__version__,
        quality=" / ".join(dict.fromkeys(run.quality.name for run in runs)),
        title=runs[0].label if len(runs) == 1 else f"{len(runs)} runs compared",
        runs=[_described(run) for run in runs],
        statements=_statements(runs),
        panels=shown,
    )


def templates() -> Environment:
    """The templates of pages; whatever they are filled with is escaped."""
    return Environment(
        loader=PackageLoader("fedsieve.experiments"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _described(run: Run) -> Mapping[str, Any]:
    """What the page says about a run, in words."""
    summary = run.summary
    return {
        "label": run.label,
        "summary": summary,
        "headline": _headline(run) if summary else [],
        "rows": readable.rows(summary, run.task, run.k) if summary else [],
        "config": tomli_w.dumps(run.config),
        "manifest": run.manifest,
        "rounds": run.table.num_rows,
        "quality": run.quality.told(summary.get("test_accuracy")),
        "loss": readable.number(summary.get("test_loss")),
        "epsilon": statement.epsilon(summary.get("epsilon")),
        "up": readable.size(summary.get("uplink_bits_per_client_round")),
    }


def _statements(runs: Sequence[Run]) -> dict[tuple[str, ...], list[str]]:
    """Privacy statement -> labels of the runs for which it holds."""
    held: dict[tuple[str, ...], list[str]] = {}
    for run in runs:
        text = statement.privacy(run.summary, run.config) if run.summary else []
        held.setdefault(tuple(text), []).append(run.label)
    return held


def _headline(run: Run) -> list[tuple[str, str, str]]:
    """The four figures at the top: name, value, what goes with it."""
    summary, measure = run.summary, run.quality
    quality = ("test loss", readable.number(summary["test_loss"]), f"{summary['rounds']} rounds")
    if summary["test_accuracy"] is not None:
        quality = (
            measure.full,
            measure.told(summary["test_accuracy"]),
            f"after {summary['rounds']} rounds",
        )
    if summary["epsilon"] is None:
        bare = summary["noise_multiplier"] is None
        why = "no noise was added" if bare else "no finite epsilon is known to hold"
        spent = ("privacy", "none", why)
    else:
        terms = (
            f"at delta {summary['delta']:.3g} per {summary['privacy_unit']}, "
            f"{summary['neighbouring_relation']}, {statement.sampling(summary)}, "
            f"{summary['accountant']}"
        )
        spent = ("epsilon", statement.epsilon(summary["epsilon"]), terms)
    return [
        quality,
        spent,
        (
            "up per client and round",
            readable.size(summary["uplink_bits_per_client_round"]),
            readable.message(summary, run.k),
        ),
        (
            "malicious clients",
            f"{summary['n_byzantine']} of {summary['n_clients']}",
            f"attack {summary['attack']}, rule {summary['rule'] or 'none'}",
        ),
    ]
