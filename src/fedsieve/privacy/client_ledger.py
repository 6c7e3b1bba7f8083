"""A client's own ledger: one budget per data set, on disk before a message leaves.

The server is not trusted with the account, and the client may crash, run twice, or lose its disk
space at any moment. A message is therefore sent in this order::

    asked -> checked -> made -> locked -> written -> committed -> sent

Charge and message are one transaction of SQLite (write-ahead log, synchronous=FULL: the log is
flushed to the device before a commit returns), and nothing is sent that was not committed. Whoever
is killed before the commit has sent nothing and owes nothing; whoever is killed after it finds the
very bytes again. For the same (run, round) the stored message is sent again and no noise is drawn:
two draws would average the noise away. Writers queue up (BEGIN IMMEDIATE) and look at budget and
round once more when it is their turn, so of two processes that answer the same request both send
the message of the first. No clock is read.

What it cannot notice is that the whole file was replaced by an older copy of itself.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fedsieve.privacy._charges import Spent, add
from fedsieve.privacy._journal import sync_folder
from fedsieve.privacy.guarantee import Guarantee
from fedsieve.privacy.limits import Limits, RefusedError, Terms

_SCHEMA = """
CREATE TABLE IF NOT EXISTS budget (
    data TEXT PRIMARY KEY, epsilon REAL NOT NULL, delta REAL NOT NULL,
    relation TEXT NOT NULL, unit TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS spent (
    data TEXT NOT NULL, sampling_rate REAL NOT NULL, noise_multiplier REAL NOT NULL,
    steps INTEGER NOT NULL, PRIMARY KEY (data, sampling_rate, noise_multiplier));
CREATE TABLE IF NOT EXISTS sent (
    data TEXT NOT NULL, run TEXT NOT NULL, round INTEGER NOT NULL,
    sampling_rate REAL NOT NULL, noise_multiplier REAL NOT NULL, steps INTEGER NOT NULL,
    clip REAL NOT NULL, message BLOB, PRIMARY KEY (data, run, round));
"""

_PATIENCE = 60.0  # seconds that a writer waits for the others


class LedgerError(RuntimeError):
    """The ledger cannot be read or written; nothing may be sent."""


class ClientLedger:
    """What a client has released of one data set, over all runs, and the messages themselves.

    Open one per process and thread.

    Args:
        path: The file; several data sets may share it. It must lie on a local disk.
        data: Name of the data set whose budget this is.
        limits: The client's own bounds. Epsilon, delta, relation and unit belong to the data set
            and stay what they were when its first ledger was opened.
        on_step: Called with the name of each step of a send, for logs and fault injection.

    Raises:
        LedgerError: The file cannot be used, or its account does not add up.
        RefusedError: The data set's budget was opened with another statement.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> limits = Limits(4.0, 1e-5, noise_multiplier=1.0, sampling_rate=0.02, clip=1.0)
        >>> with ClientLedger(Path(folder.name) / "ledger.db", "ward 7", limits) as ledger:
        ...     first = ledger.message("run 1", 0, Terms(1.0, 0.01, 1.0), lambda: b"noisy")
        ...     again = ledger.message("run 1", 0, Terms(1.0, 0.01, 1.0), lambda: b"other noise")
        ...     first, again, ledger.guarantee().steps
        (b'noisy', b'noisy', 1)
        >>> folder.cleanup()
    """

    def __init__(
        self,
        path: Path | str,
        data: str,
        limits: Limits,
        *,
        on_step: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.path, self.data, self.limits = Path(path), data, limits
        self._step = on_step
        self._process = os.getpid()
        with self._explained("nothing was sent"):
            self._db = _opened(self.path)
            with self._alone():
                self._agree()
        sync_folder(self.path.parent)

    def message(self, run: str, round_: int, terms: Terms, make: Callable[[], bytes]) -> bytes:
        """The bytes to send in a round: those that were sent before, or new ones, now paid for.

        Args:
            run: Name of the run, unique among all that use the data set.
            round_: Number of the round, >= 0.
            terms: What the server asks for.
            make: Computes the message, noise included, on these terms. It must have no other
                effect outside: what it returns may turn out not to be sent.

        Raises:
            RefusedError: The terms go beyond the limits, the round was answered on other terms, or
                its bytes were dropped by `forget`.
            BudgetExceededError: The budget does not allow it.
            LedgerError: The charge could not be written.
            ValueError: A negative round.
        """
        if round_ < 0:
            raise ValueError(f"round_={round_} must be >= 0")
        self._step("asked")
        with self._explained("nothing was sent"):
            kept = self._kept(run, round_, terms)
            if kept is not None:
                return kept
            self.limits.refuse(terms)
            self._refuse_excess(terms)
        self._step("checked")
        made = bytes(make())
        self._step("made")
        with self._explained("nothing was sent"), self._alone():
            self._step("locked")
            kept = self._kept(run, round_, terms)
            if kept is None:
                self._refuse_excess(terms)
                self._write(run, round_, terms, made)
                self._step("written")
        self._step("committed")
        return made if kept is None else kept

    def spent(self) -> Spent:
        """Charges (sampling rate, noise multiplier, steps), one for each pair of the first two."""
        rows = self._run(
            "SELECT sampling_rate, noise_multiplier, steps FROM spent WHERE data = ?", self.data
        )
        return tuple(sorted(rows))

    def guarantee(self) -> Guarantee:
        """What holds for the data set after everything that was released, in all runs."""
        with self._explained("what was spent is unknown"):
            return self.limits.budget.guarantee(self.spent())

    def forget(self, run: str, before: int) -> None:
        """Drop the bytes of a run's messages before a round; their charges stay.

        Args:
            run: Name of the run.
            before: First round that is kept. The earlier ones can not be sent again.
        """
        with self._explained("nothing was dropped"), self._alone():
            self._run(
                "UPDATE sent SET message = NULL WHERE data = ? AND run = ? AND round < ?",
                self.data,
                run,
                before,
            )

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _kept(self, run: str, round_: int, terms: Terms) -> bytes | None:
        """The message of a round that was answered before."""
        rows = self._run(
            "SELECT sampling_rate, noise_multiplier, steps, clip, message FROM sent "
            "WHERE data = ? AND run = ? AND round = ?",
            self.data,
            run,
            round_,
        )
        if not rows:
            return None
        ((q, sigma, steps, clip, message),) = rows
        before = Terms(sigma, q, clip, steps)
        if before != terms:
            raise RefusedError(
                f"round {round_} of run {run!r} was answered on {before}; answering it again on "
                f"{terms} would be another release of the same round"
            )
        if message is None:
            raise RefusedError(
                f"round {round_} of run {run!r} was answered and its message dropped; drawing its "
                "noise again would be another release of the same round"
            )
        return bytes(message)

    def _refuse_excess(self, terms: Terms) -> None:
        self.limits.budget.refuse_excess(add(self.spent(), terms.charge), f"data={self.data!r}")

    def _write(self, run: str, round_: int, terms: Terms, message: bytes) -> None:
        q, sigma, steps = terms.charge
        self._run(
            "INSERT INTO spent VALUES (?, ?, ?, ?) ON CONFLICT "
            "DO UPDATE SET steps = steps + excluded.steps",
            self.data,
            q,
            sigma,
            steps,
        )
        self._run(
            "INSERT INTO sent VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            self.data,
            run,
            round_,
            q,
            sigma,
            steps,
            float(terms.clip),
            message,
        )

    def _agree(self) -> None:
        """Open the data set's budget, or find that it is the one opened before and adds up."""
        own = self.limits.budget
        statement = own.limit, own.delta, own.relation, own.unit
        self._run("INSERT OR IGNORE INTO budget VALUES (?, ?, ?, ?, ?)", self.data, *statement)
        (held,) = self._run(
            "SELECT epsilon, delta, relation, unit FROM budget WHERE data = ?", self.data
        )
        if held != statement:
            raise RefusedError(
                f"data={self.data!r} has the budget (epsilon, delta, relation, unit) = {held}; "
                f"asked for is {statement}, and a budget does not change once it is open"
            )
        sent = self._run(
            "SELECT sampling_rate, noise_multiplier, SUM(steps) FROM sent WHERE data = ? "
            "GROUP BY sampling_rate, noise_multiplier",
            self.data,
        )
        if tuple(sorted(sent)) != self.spent():
            raise LedgerError(
                f"ledger={self.path}: the messages of data={self.data!r} do not add up to what "
                "was spent; the file was changed by something else"
            )

    def _run(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        if os.getpid() != self._process:
            raise LedgerError(
                f"ledger={self.path} was opened by process {self._process}, which forked; open it "
                "again in this one"
            )
        return self._db.execute(statement, values).fetchall()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """A transaction that no other writer overlaps, whole or not at all."""
        self._run("BEGIN IMMEDIATE")
        try:
            yield
            self._run("COMMIT")
        finally:
            if self._db.in_transaction:
                self._db.rollback()

    @contextmanager
    def _explained(self, consequence: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise LedgerError(f"ledger={self.path}: {error}; {consequence}") from error


def _opened(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)
    try:
        _prepare(db)
    except BaseException:
        db.close()
        raise
    return db


def _prepare(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA fullfsync = ON")  # macOS: through the drive's own cache
    if _logging_ahead(db) != "wal":
        raise sqlite3.OperationalError("it cannot keep a write-ahead log; use a local disk")
    db.execute("BEGIN IMMEDIATE")
    for statement in _SCHEMA.split(";"):
        db.execute(statement)
    db.execute("COMMIT")


def _logging_ahead(db: sqlite3.Connection) -> str:
    """Switch to the write-ahead log; SQLite does not queue for this by itself."""
    for _ in range(int(_PATIENCE * 100)):
        try:
            return str(db.execute("PRAGMA journal_mode = WAL").fetchone()[0])
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
        time.sleep(0.01)
    raise sqlite3.OperationalError("another process keeps it locked")
