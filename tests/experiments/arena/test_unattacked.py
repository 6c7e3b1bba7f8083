"""How often a backdoor succeeds that nobody planted: the rate that others are compared with."""

import json
import math

import pytest

from fedsieve.experiments import pieces
from fedsieve.experiments.arena import pictures, tables
from fedsieve.experiments.arena.board import Board
from fedsieve.experiments.arena.cell import Score, play
from fedsieve.experiments.arena.plan import load


@pytest.fixture(scope="module")
def played():
    """Plan and scores of an arena with two backdoors, which no worker is needed for."""
    plan = load(
        None,
        [
            "rounds=12",
            'data.name="digits"',
            "federation.clients=6",
            "algorithm.batch=64",
            'arena.rules=["mean", "median"]',
            'arena.attacks=["badnets", "edge-case", "foe"]',
            "arena.byzantine=[0, 1]",
        ],
    )
    data = pieces.dataset(plan.base())
    cells = list(plan.cells())
    return plan, {cell: play(plan.config(cell), data, backdoors=plan.backdoors) for cell in cells}


def test_it_is_measured_where_nobody_attacks(played):
    plan, scores = played
    assert [settings.name for settings in plan.backdoors] == ["badnets", "edge-case"]
    for cell, score in scores.items():
        if cell.attack == "none":
            assert score.success is None
            assert score.unattacked.keys() == {"badnets", "edge-case"}
            assert all(0 <= rate < 0.5 for rate in score.unattacked.values())
        else:
            assert score.unattacked is None


def test_tables_tell_it(played):
    plan, scores = played
    board = Board(plan, scores)
    quiet = board.unattacked("mean", "badnets", 1)
    (run,) = (s for c, s in scores.items() if (c.rule, c.attack, c.f) == ("mean", "none", 1))
    assert quiet.values == (run.unattacked["badnets"],)
    assert "Success where nobody attacks, over all rules: badnets " in tables.markdown(board)
    places = {(p["rule"], p["attack"], p["byzantine"]): p for p in tables.records(board)}
    assert places["mean", "badnets", 1]["unattacked_success_rate"] == pytest.approx(quiet.mean)
    assert places["mean", "foe", 1]["unattacked_success_rate"] is None
    json.dumps(tables.as_json(board, "digits"), allow_nan=False)


def test_without_malicious_clients_it_is_the_rate(played):
    plan, scores = played
    board = Board(plan, scores)
    for backdoor in board.backdoors:
        entry = board.entries["median", backdoor, 0]
        assert entry.success == board.unattacked("median", backdoor, 0)
        assert math.isfinite(entry.success.mean)
    assert not board.entries["median", "foe", 0].success.values
    curve = pictures.breakdown(board, "badnets", success=True)
    assert list(curve.axes[0].get_lines()[0].get_xdata()) == [0.0, 1 / 6]


def test_an_arena_of_before_has_none(played):
    plan, scores = played
    old = {
        cell: Score(**(score.as_dict() | {"unattacked": None})) for cell, score in scores.items()
    }
    board = Board(plan, old)
    assert not board.unattacked("mean", "badnets", 1).values
    assert "nobody attacks, over all rules" not in tables.markdown(board)


def test_a_backdoor_that_the_test_set_denies_is_left_out(played):
    plan, _ = played
    denied = [s.model_copy(update={"target": 10}) for s in plan.backdoors]
    cell = next(cell for cell in plan.cells() if cell.attack == "none")
    data = pieces.dataset(plan.base())
    assert play(plan.config(cell), data, backdoors=denied).unattacked == {}
