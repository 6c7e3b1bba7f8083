"""A client's ledger with a flipped bit: what was spent is never less, or nothing is sent."""

import sqlite3

import numpy as np
import pytest

from fedsieve.privacy import ClientLedger, LedgerError
from fedsieve.privacy.ledger_view import accounts
from tests.privacy.ledgers import TERMS, limits

ROUNDS = 30


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "ledger.db"
    with ClientLedger(path, "ward", limits(90)) as ledger:
        for at in range(ROUNDS):
            ledger.message("a", at, TERMS, lambda: bytes(200))
    return path


def test_a_flipped_bit_is_refused_or_costs_nothing(whole, tmp_path):
    content, rng = whole.read_bytes(), np.random.default_rng(0)
    refused = 0
    for number in range(60):
        damaged = bytearray(content)
        damaged[rng.integers(len(content))] ^= 1 << rng.integers(8)
        path = tmp_path / f"{number}.db"
        path.write_bytes(damaged)
        try:
            with ClientLedger(path, "ward", limits(90)) as ledger:
                assert sum(event.steps for event in ledger.spent()) == ROUNDS
                assert ledger.answered() == ROUNDS
        except LedgerError:
            refused += 1
    assert refused


@pytest.mark.parametrize(
    ("table", "change"),
    [("spent", "law = 'gaussiqn'"), ("sent", "sampling = 'poisSon'"), ("sent", "steps = -1"),
     ("budget", "delta = 2"), ("spent", "noise_multiplier = 0")],
)  # fmt: skip
def test_a_release_that_is_none_is_the_ledgers_fault(whole, tmp_path, table, change):
    path = tmp_path / "ledger.db"
    path.write_bytes(whole.read_bytes())
    db = sqlite3.connect(path)
    db.execute(f"UPDATE {table} SET {change}")
    db.commit()
    db.close()
    if table != "budget":  # where another one is held than is asked for, it is refused as such
        with pytest.raises(LedgerError, match="nothing was sent"):
            ClientLedger(path, "ward", limits(90))
    if table != "sent":  # looking reads what was spent
        with pytest.raises(LedgerError, match="ledger="):
            accounts(path)
