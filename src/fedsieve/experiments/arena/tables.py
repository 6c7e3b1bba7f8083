"""The table of an arena: for a terminal, in Markdown, LaTeX and CSV, and all of it as JSON."""

from __future__ import annotations

import csv
import io
import json
import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fedsieve.experiments import statement
from fedsieve.experiments.arena.board import PENDING, Board, Entry
from fedsieve.experiments.arena.cell import DONE, FAILED, UNDEFINED
from fedsieve.experiments.arena.plan import NO_ATTACK, THEN
from fedsieve.experiments.quality import QUALITY

WORST = "worst"
"""Heading of the column that repeats what a rule's most damaging attack leaves."""

SUCCESS = "success"
"""What follows a backdoor's name in the heading of the column of its success rate."""

WORDS = {UNDEFINED: "-", FAILED: "failed", PENDING: "?"}
"""What stands in the place of a figure."""


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Args:
        attack: The attack; ``None`` for the worst.
        success: Whether it shows the backdoor's success rate, not the accuracy.
    """

    attack: str | None
    success: bool = False

    def __str__(self) -> str:
        return f"{self.attack or WORST} {SUCCESS}" if self.success else self.attack or WORST


def columns(board: Board) -> list[Column]:
    """The columns, a backdoor's success rate beside its accuracy, and the worst at the end."""
    ends = [Column(None)] + [Column(None, success=True)] * bool(board.backdoors)
    both = [
        Column(attack, success)
        for attack in board.plan.columns
        for success in ((False, True) if attack in board.backdoors else (False,))
    ]
    return both + ends


def figure(board: Board, value: float, *, success: bool = False) -> str:
    """An accuracy or a success rate in percent, or the R^2 of a regression."""
    if not math.isfinite(value):
        return "nan"
    return f"{100 * value:.1f}" if success or QUALITY[board.task].share else f"{value:.3g}"


def shown(board: Board, entry: Entry, *, success: bool = False) -> str:
    """What stands in a place of the table."""
    if entry.state != DONE:
        return WORDS[entry.state]
    sample = entry.sample(success=success)
    if not sample.values:
        return WORDS[UNDEFINED]  # nobody attacks, so nothing succeeds
    mean, error = figure(board, sample.mean, success=success), sample.error
    return mean if error is None else f"{mean} ±{figure(board, error, success=success)}"


def measure(board: Board) -> str:
    """What the figures are."""
    quality = QUALITY[board.task]
    return f"{quality.full} in %" if quality.share else quality.full


def text(board: Board, width: int = 80) -> str:
    """The table for a terminal of so many columns; what does not fit follows below."""
    lines: list[str] = []
    for f in board.fs:
        lines += [f"f = {f} of n = {board.clients}", *_blocks(board, f, width), ""]
    for note in notes(board):
        lines += textwrap.wrap(note, width, subsequent_indent="  ")
    return "\n".join(lines)


def _blocks(board: Board, f: int, width: int) -> Iterator[str]:
    parts = [_column(board, f, column) for column in columns(board)]
    names = max(len(rule) for rule in board.rules) + 1
    # every column ends in a blank or a mark, so they can stand close where that saves a block
    close = names + sum(len(column[0]) for column in parts)
    gap = "" if close <= width < close + len(parts) else " "
    while parts:
        taken, room = 0, width - names
        while taken < len(parts) and room >= len(parts[taken][0]) + len(gap):
            room -= len(parts[taken][0]) + len(gap)
            taken += 1
        block, parts = parts[: max(1, taken)], parts[max(1, taken) :]
        left = [""] * (len(block[0]) - len(board.rules)) + list(board.rules)
        for row, name in enumerate(left):
            line = f"{name:{names}}{gap.join(column[row] for column in block)}".rstrip()
            if line:  # no heading of the block has a first part
                yield line
        if parts:
            yield ""


def _column(board: Board, f: int, column: Column) -> list[str]:
    """A column of strings of one length: its heading on two lines, then a line for each rule."""
    name = str(column)
    first, between, second = name.rpartition(" " if column.success else "-")
    heading = [first + between.strip(), second]
    cells = [place(board, rule, column, f) for rule in board.rules]
    wide = max(len(cell) for cell in [*cells, *(f"{word} " for word in heading)])
    return [f"{word + ' ':>{wide}}" for word in heading] + [f"{cell:>{wide}}" for cell in cells]


def place(board: Board, rule: str, column: Column, f: int) -> str:
    """A figure with the mark of the worst attack behind it, or a space."""
    success = column.success
    worst = board.worst(rule, f, success=success)
    if column.attack is None:
        if worst is None:
            return f"{nothing(board, rule, f, success=success)} "
        bound = ">=" if success else "<="
        return f"{bound if worst.bound else ''}{shown(board, worst.entry, success=success)} "
    mark = "*" if worst is not None and f and worst.attack == column.attack else " "
    return shown(board, board.entries[rule, column.attack, f], success=success) + mark


def nothing(board: Board, rule: str, f: int, *, success: bool = False) -> str:
    """What stands for the worst of attacks of which none has figures."""
    attacks = board.backdoors if success else board.plan.columns
    states = {board.entries[rule, attack, f].state for attack in attacks}
    return WORDS[FAILED if FAILED in states else PENDING if PENDING in states else UNDEFINED]


def notes(board: Board) -> list[str]:
    """What has to be known to read the table, a sentence or two each."""
    setup, seeds = board.plan.setup, board.seeds
    over = "one seed" if seeds == 1 else f"mean over {seeds} seeds ± standard error"
    told = [
        f"{setup.title}: {measure(board)} after {setup.rounds} rounds, {over}.",
        f"* and the column {WORST!r}: the attack that leaves the rule least.",
    ]
    if board.backdoors:
        told += [
            "Success of a backdoor: share in % of its test records taken for the target class.",
            f"* and the column '{WORST} {SUCCESS}': the backdoor that succeeds most.",
            *_unattacked(board),
        ]
    if 0 in board.fs:
        told.append("With f = 0 nobody attacks: one run stands for all columns.")
    for success, sign in ((False, "<="), (True, ">=")):
        worsts = (board.worst(r, f, success=success) for r in board.rules for f in board.fs)
        if any(worst.bound for worst in worsts if worst is not None):
            told.append(f"{sign}: an attack is missing, so the worst may be worse.")
    if skipped := sum(entry.skipped for entry in board.entries.values()):
        told.append(
            f"In {skipped} rounds a server got more unusable messages than f and kept its model."
        )
    for reason, places in board.unplayed().items():
        more = f" and {len(places) - 1} more" if len(places) > 1 else ""
        told.append(f"{reason} ({places[0]}{more}).")
    return [*told, privacy(board)]


def _unattacked(board: Board) -> Iterator[str]:
    """The success rates of backdoors that nobody planted."""
    told = []
    for backdoor in board.backdoors:
        samples = (board.unattacked(rule, backdoor, f) for rule in board.rules for f in board.fs)
        if means := [sample.mean for sample in samples if sample.values]:
            low, high = (figure(board, pick(means), success=True) for pick in (min, max))
            told.append(f"{backdoor} {low if low == high else f'{low} to {high}'}")
    if told:
        yield f"Success where nobody attacks, over all rules: {', '.join(told)}."


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
        names = columns(board)
        rows = ["| rule | " + " | ".join(map(str, names)) + " |", "|---|" + "---:|" * len(names)]
        for rule in board.rules:
            cells = [_emphasised(board, rule, name, f, "**{}**".format) for name in names]
            rows.append(f"| {rule} | " + " | ".join(cells) + " |")
        parts += [f"## f = {f} of n = {board.clients}", "\n".join(rows)]
    parts.append("\n".join(f"* {note}" for note in _bold_notes(board, "bold")))
    return "\n\n".join(parts) + "\n"


def _emphasised(
    board: Board, rule: str, column: Column, f: int, emphasise: Callable[[str], str]
) -> str:
    marked = place(board, rule, column, f).strip()
    return emphasise(marked.removesuffix("*")) if marked.endswith("*") else marked


def _bold_notes(board: Board, how: str) -> list[str]:
    return [
        note.replace("* and the column", f"In {how}, and in the column") for note in notes(board)
    ]


def latex(board: Board) -> str:
    """The table as a LaTeX tabular for the package booktabs; the worst attack is underlined."""
    names = columns(board)
    lines = [
        r"% \usepackage{booktabs}",
        *(f"% {note}" for note in _bold_notes(board, "underlined figures")),
        rf"\begin{{tabular}}{{l{'r' * len(names)}}}",
        r"\toprule",
        _row(["rule", *(_escaped(str(name)) for name in names)]),
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
    if cell == "-":
        return "--"
    signs = {" ±": r" $\pm$ ", "<=": r"$\le$ ", ">=": r"$\ge$ "}
    for sign, formula in signs.items():
        cell = cell.replace(sign, formula)
    return cell


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
            "worst": _is_worst(board, rule, attack, f),
            "attack_success_rate": _plain(entry.success.mean),
            "attack_success_rate_error": _plain(entry.success.error),
            "attack_success_rates": [_plain(rate) for rate in entry.success.values],
            "unattacked_success_rate": _plain(board.unattacked(rule, attack, f).mean),
            "worst_success": _is_worst(board, rule, attack, f, success=True),
            "skipped_rounds": entry.skipped,
            "seconds": round(entry.seconds, 3),
            "reason": entry.reason or None,
        }
        for (rule, attack, f), entry in board.entries.items()
        if f or attack == NO_ATTACK
    ]


def _is_worst(board: Board, rule: str, attack: str, f: int, *, success: bool = False) -> bool:
    worst = board.worst(rule, f, success=success)
    return worst is not None and worst.attack == attack


def comma_separated(board: Board) -> str:
    """The records as CSV, a missing number left empty; values of the seeds are joined by blanks."""
    rows = records(board)
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        joined = {
            key: " ".join("nan" if v is None else f"{v:.6g}" for v in row[key])
            for key in ("values", "attack_success_rates")
        }
        writer.writerow(row | joined)
    return out.getvalue()


def as_json(board: Board, source: str) -> dict[str, Any]:
    """Everything: the plan, the records, the worst attacks, and what may be claimed of privacy."""
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
        "worst": _worsts(board, "upper_bound_only", success=False),
        "worst_success": _worsts(board, "lower_bound_only", success=True),
        "privacy": None if most is None else privacy(board),
    }


def _worsts(board: Board, bound: str, *, success: bool) -> list[dict[str, Any]]:
    """The worst attack on each rule for each f; ``bound`` says that the figure is one."""
    return [
        {
            "rule": rule,
            "byzantine": f,
            "attack": w.attack,
            "mean": _plain(w.entry.sample(success=success).mean),
            "standard_error": _plain(w.entry.sample(success=success).error),
            bound: w.bound,
        }
        for f in board.fs
        for rule in board.rules
        if (w := board.worst(rule, f, success=success)) is not None
    ]


def json_text(board: Board, source: str) -> str:
    """`as_json` as text."""
    return json.dumps(as_json(board, source), indent=2, allow_nan=False) + "\n"


def _plain(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
