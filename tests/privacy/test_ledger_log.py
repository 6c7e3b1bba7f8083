"""The log beside a client's ledger: what a killed client left in it is folded into the file."""

import os
import shutil
import signal

import pytest

from fedsieve.privacy import ClientLedger, Event, RefusedError
from fedsieve.privacy.ledger_view import accounts
from tests.privacy.ledgers import TERMS, limits

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def killed_after(path, rounds):
    """A client that answered so many rounds and then died."""
    child = os.fork()
    if not child:
        ledger = ClientLedger(path, "ward", limits(9))
        for at in range(rounds):
            ledger.message("a", at, TERMS, lambda: b"x")
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)


@pytest.fixture
def alone(tmp_path):
    """Copies a ledger's file without its log, as nobody should."""

    def copied(path):
        to = tmp_path / "elsewhere" / "ledger.db"
        to.parent.mkdir()
        shutil.copy(path, to)
        return to

    return copied


def test_without_its_log_a_ledger_of_a_killed_client_keeps_its_budget(tmp_path, alone):
    path = tmp_path / "ledger.db"
    killed_after(path, 2)
    held = alone(path)
    assert accounts(held)[0].budget == limits(9).budget
    with pytest.raises(RefusedError, match="a budget does not change"):
        ClientLedger(held, "ward", limits(90))


def test_what_a_killed_client_spent_is_in_the_file_once_it_is_opened_again(tmp_path, alone):
    path = tmp_path / "ledger.db"
    killed_after(path, 2)
    with ClientLedger(path, "ward", limits(9)) as ledger:
        assert ledger.spent() == (Event(10.0, 1.0, 2),)
        (account,) = accounts(alone(path))
    assert account.spent == (Event(10.0, 1.0, 2),)


def test_a_ledger_is_opened_while_others_read_and_write_it(tmp_path):
    path = tmp_path / "ledger.db"
    with ClientLedger(path, "ward", limits(9)) as first:
        first.message("a", 0, TERMS, lambda: b"x")
        first._run("BEGIN IMMEDIATE")  # it writes, and holds an older state
        first._run("SELECT * FROM spent")
        first._db.rollback()
        first._run("BEGIN")
        first._run("SELECT * FROM spent")  # it reads: the log cannot be folded whole
        with ClientLedger(path, "ward", limits(9)) as second:
            second.message("a", 1, TERMS, lambda: b"y")
        first._run("COMMIT")
        assert first.spent() == (Event(10.0, 1.0, 2),)
