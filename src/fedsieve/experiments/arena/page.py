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
from fedsieve.experiments.drawing import Drawing, draw, save_png
from fedsieve.experiments.files import write_text
from fedsieve.experiments.report import Panel, templates


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
        if board.backdoors:
            yield Panel(
                f"heat_map_success_f{f}",
                f"Success of backdoors, {f} malicious clients of {board.clients}",
                "How often a backdoor makes the model give the target class, for each rule (row). "
                "Dark is bad here as well. The backdoor that succeeds most is framed; the last "
                "column repeats it.",
                partial(pictures.heat_map, board, f, success=True),
            )
    for attack, success, name, title in _curves(board):
        yield Panel(
            name,
            title,
            "Against the share of malicious clients; a line ends where its rule is not defined.",
            partial(pictures.breakdown, board, attack, success=success),
        )


def _curves(board: Board) -> Iterator[tuple[str | None, bool, str, str]]:
    """Attack, whether its success is shown, name and title of each breakdown curve."""
    yield None, False, "breakdown", "Breakdown under the worst attack"
    if board.backdoors:
        yield None, True, "breakdown_success", "Success of the worst backdoor"
    for attack in board.plan.attacks:
        yield attack, False, f"breakdown_{attack}", f"Breakdown under {attack}"
        if attack in board.backdoors:
            yield attack, True, f"breakdown_{attack}_success", f"Success of {attack}"


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
            columns=tables.columns(board),
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
    names = tables.columns(board)
    return f, [(rule, [tables.place(board, rule, n, f) for n in names]) for rule in board.rules]
