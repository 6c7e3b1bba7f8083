"""The SQLite file of a client's ledger: its tables, older versions of them, how it is opened.

Version 1 knew Gaussian noise only and wrote no version; version 2 adds the law of the noise, and
the variance that Skellam noise is accounted with (0 for the others); version 3 the way of sampling
(before it, Poisson samples). A file of an older version becomes one of this in a single transaction
when a client opens it. A program that knows an older version than the file's cannot write to it: it
refuses, or its statements do not fit the tables.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from fedsieve.privacy.guarantee import Event, Law, Sampling

VERSION = 3

_BUDGET = """
CREATE TABLE budget (
    data TEXT PRIMARY KEY, epsilon REAL NOT NULL, delta REAL NOT NULL,
    relation TEXT NOT NULL, unit TEXT NOT NULL)
"""
_SPENT = """
CREATE TABLE spent (
    data TEXT NOT NULL, sampling_rate REAL NOT NULL, noise_multiplier REAL NOT NULL,
    law TEXT NOT NULL, variance REAL NOT NULL, sampling TEXT NOT NULL, steps INTEGER NOT NULL,
    PRIMARY KEY (data, sampling_rate, noise_multiplier, law, variance, sampling))
"""
"""Steps are epochs, where records take part once in one."""
_SENT = """
CREATE TABLE sent (
    data TEXT NOT NULL, run TEXT NOT NULL, round INTEGER NOT NULL,
    sampling_rate REAL NOT NULL, noise_multiplier REAL NOT NULL, steps INTEGER NOT NULL,
    clip REAL NOT NULL, message BLOB,
    law TEXT NOT NULL DEFAULT 'gaussian', variance REAL NOT NULL DEFAULT 0,
    sampling TEXT NOT NULL DEFAULT 'poisson',
    PRIMARY KEY (data, run, round))
"""
KIND = ("'gaussian', 0, 'poisson'", "law, variance, 'poisson'", "law, variance, sampling")
"""What tells releases of equal noise and rate apart, as versions 1, 2 and 3 tell it."""

_ADDED = (
    "law TEXT NOT NULL DEFAULT 'gaussian'",
    "variance REAL NOT NULL DEFAULT 0",
    "sampling TEXT NOT NULL DEFAULT 'poisson'",
)
_PATIENCE = 60.0  # seconds that a writer waits for the others


class LedgerError(RuntimeError):
    """The ledger cannot be read or written; nothing may be sent."""


def opened(path: Path) -> sqlite3.Connection:
    """The file, made or brought to this version, that is on the disk when a commit returns.

    Raises:
        sqlite3.Error: It cannot be used.
        LedgerError: It was written by a later version.
    """
    db = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)
    try:
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA fullfsync = ON")  # macOS: through the drive's own cache
        if _logging_ahead(db) != "wal":
            raise sqlite3.OperationalError("it cannot keep a write-ahead log; use a local disk")
        db.execute("BEGIN IMMEDIATE")
        _bring_up(db, path)
        db.execute("COMMIT")
    except BaseException:
        db.close()
        raise
    return db


def fold(db: sqlite3.Connection) -> None:
    """Bring what the log beside the file holds into the file, as far as nobody is reading it.

    A client that is killed leaves everything since its start in the log. What cannot be folded (on
    a full disk, say) stays there, where it is as safe as it was.
    """
    with suppress(sqlite3.OperationalError):
        db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def read_only(path: Path) -> sqlite3.Connection:
    """The file as it is, to look at; a client may write to it meanwhile.

    Raises:
        sqlite3.Error: It cannot be read.
        LedgerError: It is no ledger, or was written by a later version.
    """
    db = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", timeout=_PATIENCE, isolation_level=None, uri=True
    )
    try:
        if not version(db, path):
            raise LedgerError(f"ledger={path} holds no ledger")
    except BaseException:
        db.close()
        raise
    return db


def version(db: sqlite3.Connection, path: Path) -> int:
    """Version of the tables, 0 if there are none.

    Raises:
        LedgerError: A later one than this program knows.
    """
    written = int(db.execute("PRAGMA user_version").fetchone()[0])
    if written > VERSION:
        raise LedgerError(
            f"ledger={path} has version {written}, written by a later release; this one knows "
            f"{VERSION}"
        )
    if written == 0 and db.execute("SELECT 1 FROM sqlite_master WHERE name = 'sent'").fetchall():
        return 1
    return written


def event(
    noise_multiplier: float,
    sampling_rate: float,
    steps: int,
    law: Law,
    variance: float,
    sampling: Sampling,
) -> Event:
    """A row of what was spent as an event."""
    return Event(noise_multiplier, sampling_rate, steps, law, variance or None, sampling)


def _bring_up(db: sqlite3.Connection, path: Path) -> None:
    found = version(db, path)
    if found == VERSION:
        return
    for statement in _from(found) if found else (_BUDGET, _SPENT, _SENT):
        db.execute(statement)
    db.execute(f"PRAGMA user_version = {VERSION}")


def _from(before: int) -> Iterator[str]:
    """How tables of an older version become those of this one."""
    yield "ALTER TABLE spent RENAME TO spent_before"
    yield _SPENT
    yield (
        "INSERT INTO spent SELECT data, sampling_rate, noise_multiplier, "  # noqa: S608
        f"{KIND[before - 1]}, steps FROM spent_before"
    )
    yield "DROP TABLE spent_before"
    for column in _ADDED if before == 1 else _ADDED[2:]:
        yield f"ALTER TABLE sent ADD COLUMN {column}"


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
