"""The file of a client's ledger: what older versions held goes on, later ones are refused."""

import sqlite3

import pytest

from fedsieve.privacy import (
    BudgetExceededError,
    ClientLedger,
    Event,
    LedgerError,
    RefusedError,
    Terms,
    _ledger_file,
)
from fedsieve.privacy.ledger_view import accounts
from tests.privacy.ledgers import TERMS, limits


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.db"


# What version 1 of the file held, which knew no law of the noise.
FIRST_VERSION = """
CREATE TABLE budget (
    data TEXT PRIMARY KEY, epsilon REAL NOT NULL, delta REAL NOT NULL,
    relation TEXT NOT NULL, unit TEXT NOT NULL);
CREATE TABLE spent (
    data TEXT NOT NULL, sampling_rate REAL NOT NULL, noise_multiplier REAL NOT NULL,
    steps INTEGER NOT NULL, PRIMARY KEY (data, sampling_rate, noise_multiplier));
CREATE TABLE sent (
    data TEXT NOT NULL, run TEXT NOT NULL, round INTEGER NOT NULL,
    sampling_rate REAL NOT NULL, noise_multiplier REAL NOT NULL, steps INTEGER NOT NULL,
    clip REAL NOT NULL, message BLOB, PRIMARY KEY (data, run, round));
INSERT INTO budget VALUES ('ward', {epsilon!r}, 1e-5, 'add-remove', 'record');
INSERT INTO spent VALUES ('ward', 1.0, 10.0, 1), ('ward', 1.0, 20.0, 4);
INSERT INTO sent VALUES ('ward', 'a', 0, 1.0, 10.0, 1, 1.0, x'78'),
    ('ward', 'a', 1, 1.0, 20.0, 4, 1.0, NULL);
"""

# Version 2 knew the law, and no way of sampling but Poisson's.
SECOND_VERSION = """
CREATE TABLE budget (
    data TEXT PRIMARY KEY, epsilon REAL NOT NULL, delta REAL NOT NULL,
    relation TEXT NOT NULL, unit TEXT NOT NULL);
CREATE TABLE spent (
    data TEXT NOT NULL, sampling_rate REAL NOT NULL, noise_multiplier REAL NOT NULL,
    law TEXT NOT NULL, variance REAL NOT NULL, steps INTEGER NOT NULL,
    PRIMARY KEY (data, sampling_rate, noise_multiplier, law, variance));
CREATE TABLE sent (
    data TEXT NOT NULL, run TEXT NOT NULL, round INTEGER NOT NULL,
    sampling_rate REAL NOT NULL, noise_multiplier REAL NOT NULL, steps INTEGER NOT NULL,
    clip REAL NOT NULL, message BLOB,
    law TEXT NOT NULL DEFAULT 'gaussian', variance REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (data, run, round));
INSERT INTO budget VALUES ('ward', {epsilon!r}, 1e-5, 'add-remove', 'record');
INSERT INTO spent VALUES ('ward', 1.0, 10.0, 'gaussian', 0, 1),
    ('ward', 1.0, 20.0, 'gaussian', 0, 4);
INSERT INTO sent VALUES ('ward', 'a', 0, 1.0, 10.0, 1, 1.0, x'78', 'gaussian', 0),
    ('ward', 'a', 1, 1.0, 20.0, 4, 1.0, NULL, 'gaussian', 0);
PRAGMA user_version = 2;
"""


@pytest.fixture(params=[FIRST_VERSION, SECOND_VERSION], ids=["1", "2"])
def before(request, path):
    """A ledger of an older version, with budget for one more round on `TERMS`."""
    db = sqlite3.connect(path)
    db.executescript(request.param.format(epsilon=limits(3).epsilon))
    db.close()
    return path


def test_a_ledger_of_the_older_version_goes_on(before):
    for _ in range(2):  # brought up once, then as it is
        with ClientLedger(before, "ward", limits(3, steps=4)) as ledger:
            assert ledger.spent() == (Event(10.0, 1.0, 1), Event(20.0, 1.0, 4))
            assert ledger.message("a", 0, TERMS, lambda: b"y") == b"x"
            with pytest.raises(RefusedError, match="its message dropped"):
                ledger.message("a", 1, Terms(20.0, 1.0, 1.0, 4), lambda: b"y")
            assert ledger._run("PRAGMA user_version") == [(_ledger_file.VERSION,)]
    with ClientLedger(before, "ward", limits(3)) as ledger:
        ledger.message("a", 2, TERMS, lambda: b"z")
        with pytest.raises(BudgetExceededError):
            ledger.message("a", 3, TERMS, lambda: b"z")


def test_an_older_ledger_is_shown_as_it_is(before):
    """Looking changes nothing."""
    (shown,) = accounts(before)
    assert shown.spent == (Event(10.0, 1.0, 1), Event(20.0, 1.0, 4))
    assert [(run.rounds, run.steps, run.kept) for run in shown.runs] == [(2, 5, 1)]
    db = sqlite3.connect(before)
    assert db.execute("PRAGMA user_version").fetchone()[0] < _ledger_file.VERSION
    db.close()


def test_bringing_a_ledger_up_is_whole_or_not_at_all(before, monkeypatch):
    whole = _ledger_file._from
    for stop in range(1, 8):
        monkeypatch.setattr(
            _ledger_file, "_from", lambda v, n=stop: [*[*whole(v)][:n], "INSERT INTO nowhere"]
        )
        with pytest.raises(LedgerError, match="nothing was sent"):
            ClientLedger(before, "ward", limits(3))
        monkeypatch.undo()
    with ClientLedger(before, "ward", limits(3)) as ledger:
        assert ledger.spent() == (Event(10.0, 1.0, 1), Event(20.0, 1.0, 4))


def test_a_program_of_the_older_version_cannot_write_any_more(before):
    with ClientLedger(before, "ward", limits(3)) as ledger:
        old = sqlite3.connect(before)
        with pytest.raises(sqlite3.OperationalError, match="7 columns"):
            old.execute("INSERT INTO spent VALUES ('ward', 1.0, 10.0, 1)")
        old.close()
        assert ledger.spent()[0].steps == 1


def test_a_ledger_of_a_later_version_is_refused(path):
    with ClientLedger(path, "ward", limits()) as ledger:
        ledger._run("PRAGMA user_version = 4")
    with pytest.raises(LedgerError, match="has version 4, written by a later release"):
        ClientLedger(path, "ward", limits())
