"""What the operator of a client wants to know of its ledger: budgets, what is spent, what is left.

The file is only read: looking at it neither opens a budget nor waits for a client that is sending,
and it shows no message. (SQLite may leave two files beside it: FILE-shm is of no account, FILE-wal
is part of the ledger, see `fedsieve.privacy.client_ledger`.)
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from fedsieve.privacy._budget import Budget
from fedsieve.privacy._ledger_file import KIND, LedgerError, event, read_only, version
from fedsieve.privacy.guarantee import Event, Guarantee, merge


@dataclass(frozen=True)
class RunAccount:
    """What one run asked of a data set.

    Args:
        run: Its name.
        rounds: How many were answered,
        first: from this one
        last: to this one.
        steps: Noisy releases in them.
        kept: Rounds whose message is still there and can be sent again.
    """

    run: str
    rounds: int
    first: int
    last: int
    steps: int
    kept: int


@dataclass(frozen=True)
class Account:
    """One data set of a ledger.

    Args:
        data: Its name.
        budget: Epsilon and what it depends on.
        spent: Everything that was released, equal releases counted together.
        runs: By name.
    """

    data: str
    budget: Budget
    spent: tuple[Event, ...]
    runs: tuple[RunAccount, ...]

    @property
    def rounds(self) -> int:
        """Rounds that were answered, all runs together."""
        return sum(run.rounds for run in self.runs)

    def guarantee(self) -> Guarantee:
        """What holds for the data set after everything that was released."""
        return self.budget.guarantee(self.spent)

    def left(self, message: Event) -> int:
        """How many more messages that release this fit into the budget, at most 10^9."""
        return self.budget.left(self.spent, message)


def accounts(path: Path | str) -> list[Account]:
    """Every data set of a client's ledger, by name.

    Args:
        path: The file.

    Raises:
        LedgerError: It cannot be read, is no ledger, or was written by a later version.

    Example:
        >>> import tempfile
        >>> from fedsieve.privacy import ClientLedger, Limits, Terms
        >>> folder = tempfile.TemporaryDirectory()
        >>> file, asked = Path(folder.name, "ledger.db"), Terms(10.0, 1.0, 1.0)
        >>> with ClientLedger(file, "ward 7", Limits(1.0, 1e-5, 5.0, 1.0, 1.0)) as ledger:
        ...     _ = ledger.message("run 1", 0, asked, lambda: b"noisy")
        >>> (account,) = accounts(file)
        >>> account.data, account.runs[0].run, account.rounds, account.left(asked.event)
        ('ward 7', 'run 1', 1, 6)
        >>> folder.cleanup()
    """
    file = Path(path)
    try:
        db = read_only(file)
        try:
            return _read(db, file)
        finally:
            db.close()
    except (sqlite3.Error, ValueError) as error:  # the latter: what it holds is no release
        raise LedgerError(f"ledger={file}: {error}") from error


def _read(db: sqlite3.Connection, path: Path) -> list[Account]:
    kind = KIND[version(db, path) - 1]
    db.execute("BEGIN")  # one state of the file, whatever a client writes meanwhile
    found = []
    for data, *statement in db.execute("SELECT * FROM budget ORDER BY data").fetchall():
        spent = db.execute(
            f"SELECT noise_multiplier, sampling_rate, steps, {kind} FROM spent "  # noqa: S608
            "WHERE data = ?",
            (data,),
        )
        events = merge(event(*row) for row in spent)
        runs = db.execute(
            "SELECT run, COUNT(*), MIN(round), MAX(round), SUM(steps), COUNT(message) FROM sent "
            "WHERE data = ? GROUP BY run ORDER BY run",
            (data,),
        )
        found.append(
            Account(data, Budget(*statement), events, tuple(RunAccount(*row) for row in runs))
        )
    return found
