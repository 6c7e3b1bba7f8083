"""What a client's operator sees of its ledger, while the client goes on."""

import os
import sqlite3

import pytest

from fedsieve.privacy import BudgetExceededError, ClientLedger, LedgerError, Limits, Terms, accounts
from fedsieve.privacy import epsilon as spent_by

DELTA = 1e-5
TERMS = Terms(10.0, 1.0, 1.0)
OTHER = Terms(20.0, 1.0, 1.0, law="discrete-gaussian")
LIMITS = Limits(
    spent_by(10.0, 1.0, 9, DELTA).epsilon, DELTA, 5.0, 1.0, 1.0,
    laws=("gaussian", "discrete-gaussian"),
)  # fmt: skip


@pytest.fixture
def path(tmp_path):
    found = tmp_path / "a ledger?.db"  # a name that a URI has to quote
    with ClientLedger(found, "ward", LIMITS) as ledger:
        for run, round_, terms in (("a", 3, TERMS), ("a", 5, TERMS), ("b", 0, OTHER)):
            ledger.message(run, round_, terms, lambda: b"secret" * 100)
        ledger.forget("a", before=4)
    with ClientLedger(found, "empty ward", LIMITS):
        pass
    return found


def test_all_data_sets_with_their_runs(path):
    empty, ward = accounts(path)
    assert (empty.data, empty.runs, empty.rounds) == ("empty ward", (), 0)
    assert empty.guarantee().epsilon == 0
    assert empty.left(TERMS.event) == 9
    assert ward.budget == LIMITS.budget
    assert [(r.run, r.rounds, r.first, r.last, r.steps, r.kept) for r in ward.runs] == [
        ("a", 2, 3, 5, 2, 1),
        ("b", 1, 0, 0, 1, 1),
    ]
    assert ward.rounds == 3
    with ClientLedger(path, "ward", LIMITS) as ledger:
        assert ward.spent == ledger.spent()
        assert ward.guarantee() == ledger.guarantee()


@pytest.mark.parametrize("terms", [TERMS, OTHER, Terms(10.0, 0.1, 1.0, 3)])
def test_what_is_left_is_what_the_client_can_still_send(tmp_path, terms):
    path = tmp_path / "ledger.db"
    limits = Limits(
        spent_by(10.0, 1.0, 3, DELTA).epsilon, DELTA, 5.0, 1.0, 1.0, steps=3, laws=LIMITS.laws
    )
    with ClientLedger(path, "ward", limits) as ledger:
        ledger.message("a", 0, TERMS, lambda: b"")
        (account,) = accounts(path)
        left = account.left(terms.event)
        assert 0 < left < 500
        spent = [*ledger.spent(), *(left * [terms.event])]
        limits.budget.refuse_excess(spent, "these")
        with pytest.raises(BudgetExceededError):
            limits.budget.refuse_excess([*spent, terms.event], "one more")


def test_it_neither_writes_nor_waits(path):
    with ClientLedger(path, "ward", LIMITS) as ledger:
        with ledger._alone():  # a client in the middle of a send
            before = accounts(path)
            ledger._write("c", 0, TERMS, b"x")
            assert accounts(path) == before
        assert accounts(path)[1].rounds == 4


def test_a_ledger_of_the_first_version_is_shown_as_it_is(tmp_path):
    path = tmp_path / "ledger.db"
    db = sqlite3.connect(path)
    db.executescript(
        "CREATE TABLE budget (data, epsilon, delta, relation, unit);"
        "CREATE TABLE spent (data, sampling_rate, noise_multiplier, steps);"
        "CREATE TABLE sent (data, run, round, sampling_rate, noise_multiplier, steps, clip, "
        "message);"
        "INSERT INTO budget VALUES ('ward', 2.0, 1e-5, 'add-remove', 'record');"
        "INSERT INTO spent VALUES ('ward', 1.0, 10.0, 1);"
        "INSERT INTO sent VALUES ('ward', 'a', 0, 1.0, 10.0, 1, 1.0, x'78')"
    )
    db.close()
    (account,) = accounts(path)
    assert account.spent == (TERMS.event,)
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA user_version").fetchone() == (0,)
    db.close()


def test_what_is_no_ledger_is_refused(tmp_path):
    with pytest.raises(LedgerError, match="unable to open"):
        accounts(tmp_path / "nothing.db")
    assert os.listdir(tmp_path) == []
    (tmp_path / "text").write_text("no ledger" * 1000)
    with pytest.raises(LedgerError, match="not a database"):
        accounts(tmp_path / "text")
    sqlite3.connect(tmp_path / "other").executescript("CREATE TABLE t (x)").connection.close()
    with pytest.raises(LedgerError, match="holds no ledger"):
        accounts(tmp_path / "other")
