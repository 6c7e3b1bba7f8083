"""The files that an arena leaves: its table in several forms, its figures, and one page."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from markupsafe import Markup

from fedsieve._version import __version__
from fedsieve.experiments import statement
from fedsieve.experiments.arena import pictures, tables
from fedsieve.experiments.arena.board import Board
from fedsieve.experiments.drawing import Drawing, draw
from fedsieve.experiments.files import write_text
from fedsieve.experiments.report import Panel, save_png, templates


def write(board: Board, directory: Path, source: str) -> Path:
    """Write all files of an arena.

    Args:
        board: The results.
        directory: Where to.
        source: Sentence on the data.

    Returns:
        The page.
    """
    write_text(directory / "arena.md", tables.markdown(board))
    write_text(directory / "arena.csv", tables.comma_separated(board))
    write_text(directory / "arena.tex", tables.latex(board))
    write_text(directory / "arena.json", tables.json_text(board, source))
    shown: list[tuple[Panel, Markup]] = []
    for panel in panels(board):
        drawing: Drawing | None = draw(panel.make)
        if drawing is not None:
            save_png(directory / "figures" / f"{panel.name}.png", drawing)
            shown.append((panel, Markup(drawing.svg)))  # noqa: S704 - its texts are escaped
    page = directory / "report.html"
    write_text(page, _render(board, source, shown))
    return page


def panels(board: Board) -> Iterator[Panel]:
    """The figures, in reading order."""
    for f in board.fs:
        yield Panel(
            f"heat_map_f{f}",
            f"{f} malicious clients of {board.clients}",
            f"What each rule (row) leaves of the {tables.measure(board).removesuffix(' in %')} "
            "under each attack (column). The most damaging attack is framed; the last column "
            "repeats it.",
            partial(pictures.heat_map, board, f),
        )
    curves = [(None, "breakdown", "Breakdown under the worst attack"), *_each(board)]
    for attack, name, title in curves:
        yield Panel(
            name,
            title,
            "Against the share of malicious clients; a line ends where its rule is not defined.",
            partial(pictures.breakdown, board, attack),
        )


def _each(board: Board) -> list[tuple[str | None, str, str]]:
    return [(a, f"breakdown_{a}", f"Breakdown under {a}") for a in board.plan.attacks]


def _render(board: Board, source: str, shown: list[tuple[Panel, Markup]]) -> str:
    most = board.private
    paragraphs = statement.privacy({} if most is None else most.summary or {}, _terms(board))
    return (
        templates()
        .get_template("arena.html.jinja")
        .render(
            version=__version__,
            title=board.plan.setup.title,
            source=source,
            panels=shown,
            rows=[_rows(board, f) for f in board.fs],
            columns=[*board.plan.columns, tables.WORST],
            clients=board.clients,
            notes=tables.notes(board)[:-1],
            statements=paragraphs,
            private=most is not None,
            plan=board.plan.dump(),
        )
    )


def _terms(board: Board) -> dict[str, object]:
    most = board.private
    return {} if most is None or most.terms is None else most.terms


def _rows(board: Board, f: int) -> tuple[int, list[tuple[str, list[str]]]]:
    names = [*board.plan.columns, tables.WORST]
    return f, [(rule, [tables.place(board, rule, n, f) for n in names]) for rule in board.rules]
