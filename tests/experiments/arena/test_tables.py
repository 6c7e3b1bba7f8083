"""The tables and figures of an arena, from invented scores."""

from __future__ import annotations

import csv
import io
import json
import math
from typing import Any

import numpy as np
import pytest

from fedsieve.experiments import toml
from fedsieve.experiments.arena import page, pictures, tables
from fedsieve.experiments.arena.board import Board, Entry
from fedsieve.experiments.arena.cell import DONE, FAILED, UNDEFINED, Score
from fedsieve.experiments.arena.plan import Plan, Setup
from fedsieve.experiments.drawing import draw
from fedsieve.learning.data import Task

RULES = ["mean", "trimmed-mean", "nnm >> caf"]
ATTACKS = ["label-flip", "sign-flip", "alie", "foe"]
SPENT = {
    "epsilon": 3.98761,
    "delta": 1e-5,
    "privacy_unit": "record",
    "neighbouring_relation": "add-remove",
    "accountant": "PLD",
    "noise_multiplier": 1.5,
    "noise_source": "operating system entropy",
}


def done(accuracy: float | None, **more: Any) -> Score:
    summary = {"test_accuracy": accuracy, "seconds_total": 2.0, "epsilon": None, **more}
    return Score(DONE, "", summary, 0, {"algorithm": {"batch": 10}})


def board(
    *,
    fs: tuple[int, ...] = (4,),
    seeds: tuple[int, ...] = (0,),
    changes: dict[tuple[str, str], Score] | None = None,
    task: Task = "classification",
    **summary: Any,
) -> Board:
    setup = toml.parse(
        {
            "name": "a <b> & 5 %_$",
            "model": {"name": "softmax"},
            "arena": {"rules": RULES, "attacks": ATTACKS, "byzantine": fs, "seeds": seeds},
        },
        Setup,
    )
    assert isinstance(setup, Setup)
    plan, scores = Plan(setup), {}
    for cell in plan.cells():
        row, column = RULES.index(cell.rule), plan.columns.index(cell.attack)
        value = 0.9 - 0.01 * row - 0.02 * column * cell.f / 4 + 0.01 * seeds.index(cell.seed)
        scores[cell] = (changes or {}).get((cell.rule, cell.attack), done(value, **summary))
    return Board(plan, scores, task)


def test_mean_and_standard_error_over_the_seeds() -> None:
    held = board(seeds=(5, 6, 7)).entries["mean", "none", 4]
    assert held.values == pytest.approx((0.90, 0.91, 0.92))
    assert held.mean == pytest.approx(np.mean(held.values))
    assert held.error == pytest.approx(np.std(held.values, ddof=1) / math.sqrt(3))
    assert Entry((0.5,), DONE).error is None


def test_the_worst_attack_is_the_least_mean_and_never_no_attack() -> None:
    changes = {("mean", "none"): done(0.05), ("mean", "alie"): done(0.3)}
    worst = board(changes=changes).worst("mean", 4)
    assert worst is not None
    assert (worst.attack, worst.entry.mean, worst.bound) == ("alie", 0.3, False)


def test_a_regression_is_measured_by_its_own_measure() -> None:
    fits = board(changes={("mean", "foe"): done(-1.938)}, task="regression")
    assert tables.measure(fits) == "test R^2"
    assert tables.shown(fits, fits.entries["mean", "foe", 4]) == "-1.94"
    drawing = draw(lambda: pictures.heat_map(fits, 4))
    assert drawing is not None
    assert "test R^2" in drawing.svg
    assert "accuracy" not in drawing.svg


def test_a_result_that_is_no_number_is_the_worst() -> None:
    worst = board(changes={("mean", "foe"): done(None)}, task="regression").worst("mean", 4)
    assert worst is not None
    assert worst.attack == "foe"


def test_a_failed_attack_makes_the_worst_a_bound_and_an_undefined_one_does_not() -> None:
    def bound(state: str) -> bool:
        worst = board(changes={("mean", "foe"): Score(state, "why")}).worst("mean", 4)
        assert worst is not None
        assert worst.attack == "alie"
        return worst.bound

    assert (bound(FAILED), bound(UNDEFINED)) == (True, False)


TABLE = """\
f = 4 of n = 20
                    label-  sign-
              none    flip   flip  alie   foe  worst
mean         90.0    88.0   86.0  84.0  82.0*  82.0
trimmed-mean 89.0    87.0      -  83.0  81.0*  81.0
nnm >> caf   88.0    86.0   84.0  82.0* failed <=82.0
"""


def test_the_terminal_table() -> None:
    changes = {
        ("trimmed-mean", "sign-flip"): Score(UNDEFINED, "f is too large"),
        ("nnm >> caf", "foe"): Score(FAILED, "RuntimeError: no"),
    }
    told = tables.text(board(changes=changes))
    shown = [line.split() for line in told.splitlines()]
    assert shown[: TABLE.count("\n")] == [line.split() for line in TABLE.splitlines()]
    assert "not defined: f is too large (trimmed-mean / sign-flip / f=4)." in told
    assert "failed: RuntimeError: no (nnm >> caf / foe / f=4)." in told
    assert "Privacy: none" in told


@pytest.mark.parametrize("width", [40, 80])
@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_the_table_fits_the_terminal_and_loses_no_column(width: int, seeds) -> None:
    told = tables.text(board(seeds=seeds, fs=(2, 4)), width)
    assert max(map(len, told.splitlines())) <= width
    assert told.count("none") - told.count("Privacy: none") == 2
    assert told.count("worst") >= 3
    assert ("±" in told) == (len(seeds) > 1)


def test_epsilon_never_stands_alone() -> None:
    held = board(**SPENT)
    everything = [
        tables.text(held, 1000),
        tables.markdown(held),
        tables.latex(held),
        tables.json_text(held, "source"),
    ]
    terms = "epsilon 3.988 at delta 1e-05, per record (add-remove), Poisson sampling, PLD"
    for told in everything:
        assert told.count("3.98") == told.count(terms) == 1
        assert "of each run by itself" in told
    assert "epsilon" not in tables.comma_separated(held)


def test_markdown() -> None:
    lines = tables.markdown(board(seeds=(0, 1))).splitlines()
    assert "| rule | none | label-flip | sign-flip | alie | foe | worst |" in lines
    (row,) = [line for line in lines if line.startswith("| nnm >> caf |")]
    assert row.count("|") == 8
    assert "**80.5 ±0.5** | 80.5 ±0.5 |" in row
    assert not any("* and the column" in line for line in lines)


def test_latex_is_a_booktabs_tabular_with_escaped_names() -> None:
    told = tables.latex(board(seeds=(0, 1), fs=(2, 4)))
    lines = [line for line in told.splitlines() if not line.startswith("%")]
    assert lines[0] == r"\begin{tabular}{lrrrrrr}"
    assert [told.count(rf"\{rule}rule") for rule in ("top", "mid", "bottom")] == [1, 2, 1]
    rows = [line for line in lines if line.endswith(r"\\") and "multicolumn" not in line]
    assert len(rows) == 1 + 2 * len(RULES)
    assert {line.count(" & ") for line in rows} == {6}
    assert r"nnm $\gg$ caf &" in told
    assert r"\underline{80.5 $\pm$ 0.5}" in told
    assert ">>" not in "".join(lines)


def backdoored(**more: Any) -> Board:
    """An arena whose foe is a backdoor, and its alie another that does not get through."""
    rates = {"mean": 0.998, "trimmed-mean": 0.25, "nnm >> caf": 0.01}
    changes = {(r, "foe"): done(0.895, attack_success_rate=rate) for r, rate in rates.items()}
    changes |= {(r, "alie"): done(0.9, attack_success_rate=0.1) for r in RULES}
    return board(changes=changes | more.pop("changes", {}), **more)


def test_a_backdoor_is_judged_by_its_success_and_the_accuracy_it_leaves() -> None:
    held = backdoored()
    assert held.backdoors == ("alie", "foe")
    told = {rule: held.worst(rule, 4, success=True) for rule in RULES}
    assert {rule: worst and worst.attack for rule, worst in told.items()} == {
        "mean": "foe",
        "trimmed-mean": "foe",
        "nnm >> caf": "alie",
    }
    least = held.worst("mean", 4)
    assert least is not None
    assert least.attack == "sign-flip"  # of the least accuracy, of any kind
    wrecked = backdoored(changes={("mean", "foe"): done(0.1, attack_success_rate=0.0)})
    worst = wrecked.worst("mean", 4)
    assert worst is not None
    assert worst.attack == "foe"
    assert board().backdoors == ()
    assert board().worst("mean", 4, success=True) is None


def test_success_stands_beside_the_accuracy_in_every_table() -> None:
    held = backdoored(fs=(0, 4), seeds=(0, 1))
    head = "none label-flip sign-flip alie alie success foe foe success worst worst success"
    written = tables.markdown(held)
    rows = [line.split(" | ") for line in written.splitlines() if line.startswith("| mean |")]
    assert f"| rule | {' | '.join(map(str, tables.columns(held)))} |" in written
    assert " ".join(map(str, tables.columns(held))) == head
    assert rows[0][5] == rows[0][7] == "-"  # nobody attacks
    assert rows[1][5:] == ["10.0 ±0.0", "89.5 ±0.0", "**99.8 ±0.0**", "86.5 ±0.5", "99.8 ±0.0 |"]
    lined = tables.latex(held)
    assert r"\underline{99.8 $\pm$ 0.0}" in lined
    assert {line.count(" & ") for line in lined.splitlines() if line.startswith("mean &")} == {9}
    terminal = tables.text(held, 200)
    assert "99.8 ±0.0*" in terminal
    assert "'worst success': the backdoor that succeeds most" in terminal
    assert "success" not in tables.text(board(), 200)


def test_success_in_csv_and_json() -> None:
    held = backdoored(seeds=(0, 1))
    rows = list(csv.DictReader(io.StringIO(tables.comma_separated(held))))
    by = {(row["rule"], row["attack"]): row for row in rows}
    foe = by["mean", "foe"]
    assert float(foe["attack_success_rate"]) == pytest.approx(0.998)
    assert [float(v) for v in foe["attack_success_rates"].split()] == [0.998, 0.998]
    assert (foe["worst"], foe["worst_success"]) == ("False", "True")
    flip = by["mean", "sign-flip"]
    assert (flip["attack_success_rate"], flip["attack_success_rates"]) == ("", "")
    assert (flip["worst"], flip["worst_success"]) == ("True", "False")
    told = json.loads(tables.json_text(held, "source"))
    assert [(w["rule"], w["attack"]) for w in told["worst_success"]] == [
        ("mean", "foe"),
        ("trimmed-mean", "foe"),
        ("nnm >> caf", "alie"),
    ]
    assert told["worst_success"][0]["mean"] == pytest.approx(0.998)


def test_a_failed_backdoor_makes_the_worst_success_a_lower_bound() -> None:
    held = backdoored(changes={("mean", "foe"): Score(FAILED, "why")})
    told = tables.text(held, 200)
    assert ">=10.0" in told
    assert "<=86.0" in told
    assert ">=: an attack is missing" in told


def test_success_is_drawn_with_the_backdoor_that_succeeds_most_framed() -> None:
    several = {panel.name: panel for panel in page.panels(backdoored(fs=(0, 2, 4)))}
    wanted = {"heat_map_success_f4", "breakdown_success", "breakdown_foe_success"}
    assert wanted <= set(several)
    drawn = several["heat_map_success_f4"].make()
    assert drawn is not None
    frames = [patch.get_xy() for patch in drawn.axes[0].patches]
    assert {(round(x + 0.46), round(y + 0.44)) for x, y in frames} == {(1, 0), (1, 1), (0, 2)}
    assert "99.8" in {text.get_text() for text in drawn.axes[0].texts}
    assert several["heat_map_success_f0"].make() is None
    curves = several["breakdown_foe_success"].make()
    assert curves is not None
    assert [list(line.get_ydata()) for line in curves.axes[0].lines if len(line.get_xdata()) == 2]


def test_csv_has_a_row_for_each_place_and_full_figures() -> None:
    held = board(seeds=(0, 1), fs=(0, 2), changes={("mean", "foe"): Score(FAILED, 'a, "b"')})
    rows = list(csv.DictReader(io.StringIO(tables.comma_separated(held))))
    assert len(rows) == len(RULES) * (1 + 1 + len(ATTACKS))
    by = {(row["rule"], row["attack"], row["byzantine"]): row for row in rows}
    failed = by["mean", "foe", "2"]
    assert (failed["state"], failed["reason"], failed["mean"]) == ("failed", 'a, "b"', "")
    alie = by["nnm >> caf", "alie", "2"]
    assert [float(v) for v in alie["values"].split()] == pytest.approx([0.85, 0.86])
    assert float(alie["mean"]) == pytest.approx(0.855)
    assert float(alie["standard_error"]) == pytest.approx(0.005)


def test_json_holds_everything_and_no_number_that_is_none() -> None:
    held = board(changes={("mean", "foe"): done(None)})
    told = json.loads(tables.json_text(held, "from there"))
    assert (told["data"], told["privacy"]) == ("from there", None)
    assert [(w["rule"], w["attack"]) for w in told["worst"]] == [
        ("mean", "foe"),
        ("trimmed-mean", "foe"),
        ("nnm >> caf", "foe"),
    ]
    assert len(told["places"]) == 15
    assert told["places"][4]["mean"] is None


def test_figures_exist_where_there_is_something_to_show() -> None:
    one = {panel.name: draw(panel.make) for panel in page.panels(board())}
    assert [name for name, drawing in one.items() if drawing] == ["heat_map_f4"]
    several = {panel.name: draw(panel.make) for panel in page.panels(board(fs=(0, 2, 4)))}
    assert all(several.values())
    assert set(several) == {
        *(f"heat_map_f{f}" for f in (0, 2, 4)),
        *(f"breakdown_{attack}" for attack in ATTACKS),
        "breakdown",
    }
    nothing = {(r, a): Score(FAILED, "no") for r in RULES for a in ("none", *ATTACKS)}
    assert not any(draw(p.make) for p in page.panels(board(changes=nothing, fs=(2, 4))))


def test_the_heat_map_frames_one_attack_in_each_row() -> None:
    (panel,) = [p for p in page.panels(board()) if p.name == "heat_map_f4"]
    figure = panel.make()
    assert figure is not None
    frames = [patch.get_xy() for patch in figure.axes[0].patches]
    assert {(round(x + 0.46), round(y + 0.44)) for x, y in frames} == {(4, 0), (4, 1), (4, 2)}


def test_the_page_is_self_contained_and_escaped(tmp_path) -> None:
    path = page.write(board(fs=(2, 4), **SPENT), tmp_path, "source <of> data")
    told = path.read_text()
    assert "a &lt;b&gt; &amp; 5 %_$" in told
    assert "source &lt;of&gt; data" in told
    assert "<b>" not in told
    assert "http" not in told.replace("http://www.w3.org", "").replace("https://www.w3.org", "")
    assert told.count("<svg") == 2 + 1 + len(ATTACKS)
    assert "(3.988, 1e-05)-differentially private" in told
    assert "each run by itself" in told
    written = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert {"arena.md", "arena.csv", "arena.tex", "arena.json", "report.html"} <= written
    assert "figures/heat_map_f2.png" in written
