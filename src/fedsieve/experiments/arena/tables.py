"""The table of an arena: for a terminal, in Markdown, LaTeX and CSV, and all of it as JSON."""

from __future__ import annotations

import csv
import io
import json
import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fedsieve.experiments import statement
from fedsieve.experiments.arena.board import PENDING, Board, Entry
from fedsieve.experiments.arena.cell import DONE, FAILED, UNDEFINED
from fedsieve.experiments.arena.plan import NO_ATTACK, THEN

WORST = "worst"
"""Heading of the column that repeats what a rule's most damaging attack leaves."""

WORDS = {UNDEFINED: "-", FAILED: "failed", PENDING: "?"}
"""What stands in the place of a figure."""


def figure(board: Board, value: float) -> str:
    """An accuracy in percent, or the R^2 of a regression."""
    if not math.isfinite(value):
        return "nan"
    return f"{100 * value:.1f}" if board.task == "classification" else f"{value:.3g}"


def shown(board: Board, entry: Entry) -> str:
    """What stands in a place of the table."""
    if entry.state != DONE:
        return WORDS[entry.state]
    mean = figure(board, entry.mean)
    return mean if entry.error is None else f"{mean} ±{figure(board, entry.error)}"


def measure(board: Board) -> str:
    """What the figures are."""
    return "test accuracy in %" if board.task == "classification" else "R^2 on the test set"


def text(board: Board, width: int = 80) -> str:
    """The table for a terminal of so many columns; what does not fit follows below."""
    lines: list[str] = []
    for f in board.fs:
        lines += [f"f = {f} of n = {board.clients}", *_blocks(board, f, width), ""]
    for note in notes(board):
        lines += textwrap.wrap(note, width, subsequent_indent="  ")
    return "\n".join(lines)


def _blocks(board: Board, f: int, width: int) -> Iterator[str]:
    columns = [_column(board, f, name) for name in (*board.plan.columns, WORST)]
    names = max(len(rule) for rule in board.rules) + 1
    # every column ends in a blank or a mark, so they can stand close where that saves a block
    close = names + sum(len(column[0]) for column in columns)
    gap = "" if close <= width < close + len(columns) else " "
    while columns:
        taken, room = 0, width - names
        while taken < len(columns) and room >= len(columns[taken][0]) + len(gap):
            room -= len(columns[taken][0]) + len(gap)
            taken += 1
        block, columns = columns[: max(1, taken)], columns[max(1, taken) :]
        left = [""] * (len(block[0]) - len(board.rules)) + list(board.rules)
        for row, name in enumerate(left):
            line = f"{name:{names}}{gap.join(column[row] for column in block)}".rstrip()
            if line:  # no heading of the block has a first part
                yield line
        if columns:
            yield ""


def _column(board: Board, f: int, name: str) -> list[str]:
    """A column of strings of one length: its heading on two lines, then a line for each rule."""
    first, _, second = name.rpartition("-")
    heading = [f"{first}-" if first else "", second]
    cells = [place(board, rule, name, f) for rule in board.rules]
    wide = max(len(cell) for cell in [*cells, *(f"{word} " for word in heading)])
    return [f"{word + ' ':>{wide}}" for word in heading] + [f"{cell:>{wide}}" for cell in cells]


def place(board: Board, rule: str, name: str, f: int) -> str:
    """A figure with the mark of the worst attack behind it, or a space."""
    worst = board.worst(rule, f)
    if name == WORST:
        if worst is None:
            return f"{nothing(board, rule, f)} "
        return f"{'<=' if worst.bound else ''}{shown(board, worst.entry)} "
    mark = "*" if worst is not None and f and worst.attack == name else " "
    return shown(board, board.entries[rule, name, f]) + mark


def nothing(board: Board, rule: str, f: int) -> str:
    """What stands for the worst of attacks of which none has figures."""
    states = {board.entries[rule, attack, f].state for attack in board.plan.columns}
    return WORDS[FAILED if FAILED in states else PENDING if PENDING in states else UNDEFINED]


def notes(board: Board) -> list[str]:
    """What has to be known to read the table, a sentence or two each."""
    setup, seeds = board.plan.setup, board.seeds
    over = "one seed" if seeds == 1 else f"mean over {seeds} seeds ± standard error"
    told = [
        f"{setup.title}: {measure(board)} after {setup.rounds} rounds, {over}.",
        f"* and the column {WORST!r}: the attack that leaves the rule least.",
    ]
    if 0 in board.fs:
        told.append("With f = 0 nobody attacks: one run stands for all columns.")
    if any((w := board.worst(r, f)) and w.bound for r in board.rules for f in board.fs):
        told.append("<=: an attack is missing, so the worst may be worse.")
    if skipped := sum(entry.skipped for entry in board.entries.values()):
        told.append(
            f"In {skipped} rounds a server got more unusable messages than f and kept its model."
        )
    for reason, places in board.unplayed().items():
        more = f" and {len(places) - 1} more" if len(places) > 1 else ""
        told.append(f"{reason} ({places[0]}{more}).")
    return [*told, privacy(board)]


def privacy(board: Board) -> str:
    """What the runs may claim, in a sentence."""
    most = board.private
    if most is None:
        return "Privacy: none (no differential privacy)."
    assert most.summary is not None
    return (
        f"Privacy, of each run by itself (several runs on the same records spend more): "
        f"{statement.privacy_line(most.summary)}."
    )


def markdown(board: Board) -> str:
    """The table in Markdown, one for each f."""
    parts = [f"# {board.plan.setup.title}"]
    for f in board.fs:
        names = [*board.plan.columns, WORST]
        rows = ["| rule | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
        for rule in board.rules:
            cells = [_emphasised(board, rule, name, f, "**{}**".format) for name in names]
            rows.append(f"| {rule} | " + " | ".join(cells) + " |")
        parts += [f"## f = {f} of n = {board.clients}", "\n".join(rows)]
    parts.append("\n".join(f"* {note}" for note in _bold_notes(board, "bold")))
    return "\n\n".join(parts) + "\n"


def _emphasised(board: Board, rule: str, name: str, f: int, emphasise: Callable[[str], str]) -> str:
    marked = place(board, rule, name, f).strip()
    return emphasise(marked.removesuffix("*")) if marked.endswith("*") else marked


def _bold_notes(board: Board, how: str) -> list[str]:
    return [
        note.replace("* and the column", f"In {how}, and in the column") for note in notes(board)
    ]


def latex(board: Board) -> str:
    """The table as a LaTeX tabular for the package booktabs; the worst attack is underlined."""
    names = [*board.plan.columns, WORST]
    lines = [
        r"% \usepackage{booktabs}",
        *(f"% {note}" for note in _bold_notes(board, "underlined figures")),
        rf"\begin{{tabular}}{{l{'r' * len(names)}}}",
        r"\toprule",
        _row(["rule", *map(_escaped, names)]),
    ]
    for f in board.fs:
        lines += [r"\midrule"]
        if len(board.fs) > 1:
            lines += [
                rf"\multicolumn{{{len(names) + 1}}}{{l}}{{$f = {f}$, $n = {board.clients}$}} \\"
            ]
        for rule in board.rules:
            cells = [_emphasised(board, rule, n, f, r"\underline{{{}}}".format) for n in names]
            lines.append(_row([_escaped(rule), *map(_in_mathematics, cells)]))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _in_mathematics(cell: str) -> str:
    return "--" if cell == "-" else cell.replace(" ±", r" $\pm$ ").replace("<=", r"$\le$ ")


def _escaped(name: str) -> str:
    r"""A name in LaTeX.

    Example:
        >>> print(_escaped("nnm >> my_rule"))
        nnm $\gg$ my\_rule
    """
    for special in "_%&#$":
        name = name.replace(special, f"\\{special}")
    return name.replace(THEN, r" $\gg$ ")


def records(board: Board) -> list[dict[str, Any]]:
    """One record for each place of the table, with plain values."""
    return [
        {
            "rule": rule,
            "attack": attack,
            "byzantine": f,
            "clients": board.clients,
            "state": entry.state,
            "mean": _plain(entry.mean),
            "standard_error": _plain(entry.error),
            "seeds": board.seeds,
            "values": [_plain(value) for value in entry.values],
            "worst": (w := board.worst(rule, f)) is not None and w.attack == attack,
            "skipped_rounds": entry.skipped,
            "seconds": round(entry.seconds, 3),
            "reason": entry.reason or None,
        }
        for (rule, attack, f), entry in board.entries.items()
        if f or attack == NO_ATTACK
    ]


def comma_separated(board: Board) -> str:
    """The records as CSV, a missing number left empty; values of the seeds are joined by blanks."""
    rows = records(board)
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        values = " ".join("nan" if v is None else f"{v:.6g}" for v in row["values"])
        writer.writerow(row | {"values": values})
    return out.getvalue()


def as_json(board: Board, source: str) -> dict[str, Any]:
    """Everything: the plan, the records, the worst attacks, and what may be claimed of privacy."""
    worst = [
        {
            "rule": rule,
            "byzantine": f,
            "attack": w.attack,
            "mean": _plain(w.entry.mean),
            "standard_error": _plain(w.entry.error),
            "upper_bound_only": w.bound,
        }
        for f in board.fs
        for rule in board.rules
        if (w := board.worst(rule, f)) is not None
    ]
    most = board.private
    return {
        "title": board.plan.setup.title,
        "measure": "accuracy" if board.task == "classification" else "r2",
        "rounds": board.plan.setup.rounds,
        "data": source,
        "rules": list(board.rules),
        "attacks": list(board.plan.attacks),
        "byzantine": list(board.fs),
        "seeds": list(board.plan.setup.arena.seeds),
        "places": records(board),
        "worst": worst,
        "privacy": None if most is None else privacy(board),
    }


def json_text(board: Board, source: str) -> str:
    """`as_json` as text."""
    return json.dumps(as_json(board, source), indent=2, allow_nan=False) + "\n"


def _plain(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
