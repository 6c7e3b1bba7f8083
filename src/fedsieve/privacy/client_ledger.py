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

What it cannot notice is that the whole file was replaced by an older copy of itself. The log beside
it (FILE-wal) belongs to it: until the ledger is closed, or opened once more, it holds the latest
charges. Who moves or copies FILE without it, or loses it, has such an older copy.
"""

from __future__ import annotations

import operator
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fedsieve.privacy import _ledger_file
from fedsieve.privacy._journal import sync_name
from fedsieve.privacy._ledger_file import LedgerError as LedgerError
from fedsieve.privacy.guarantee import Event, Guarantee, Law, Sampling, merge
from fedsieve.privacy.limits import Limits, RefusedError, Terms, released


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
        RefusedError: The data set's budget was opened with another statement, or its name is no
            text that the file can hold.

    Example:
        A server proposes terms; the client draws its noise on them, keeps the message, sends it.
        It then crashes, and is asked for the same round again.

        >>> import tempfile, numpy as np, torch
        >>> from fedsieve.privacy import GaussianMechanism
        >>> folder = tempfile.TemporaryDirectory()
        >>> own = Limits(4.0, 1e-5, noise_multiplier=1.0, sampling_rate=0.02, clip=1.0, rounds=300)
        >>> proposed = Terms(noise_multiplier=1.2, sampling_rate=0.01, clip=1.0)
        >>> def make():  # clip, sum and noise on these terms; here the batch was empty
        ...     noise = GaussianMechanism(proposed.clip, proposed.noise_multiplier, batch=50)
        ...     sums, generator = torch.zeros(1, 3), np.random.default_rng()
        ...     return noise.release(sums, [generator]).messages.numpy().tobytes()
        >>> def send():
        ...     with ClientLedger(Path(folder.name, "ledger.db"), "ward 7", own) as ledger:
        ...         return ledger.message("run 1", 0, proposed, make), ledger.spent()
        >>> before_the_crash, after_it = send(), send()
        >>> before_the_crash == after_it, after_it[1][0].steps
        (True, 1)
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
        _refuse_name(data, "data")
        self.path, self.data, self.limits = Path(path), data, limits
        self._step = on_step
        self._process = os.getpid()
        with self._explained("nothing was sent"):
            self._db = _ledger_file.opened(self.path)
            try:
                with self._alone():
                    self._agree()
                _ledger_file.fold(self._db)
                sync_name(self.path)
            except BaseException:
                self._db.close()
                raise

    def message(self, run: str, round_: int, terms: Terms, make: Callable[[], bytes]) -> bytes:
        """The bytes to send in a round: those that were sent before, or new ones, now paid for.

        Args:
            run: Name of the run, unique among all that use the data set.
            round_: Number of the round, >= 0.
            terms: What the server asks for.
            make: Computes the message, noise included, on these terms. It must have no other
                effect outside: what it returns may turn out not to be sent.

        Raises:
            RefusedError: The terms go beyond the limits, the round was answered on other terms, its
                bytes were dropped by `forget`, or ``run`` is no text that the file can hold.
            BudgetExceededError: The budget does not allow it.
            LedgerError: The charge could not be written.
            ValueError: A negative round.
        """
        _refuse_name(run, "run")
        round_ = operator.index(round_)  # a number of numpy would be another row
        if not 0 <= round_ < 2**63:
            raise ValueError(f"round_={round_} must be >= 0 and below 2^63")
        self._step("asked")
        with self._explained("nothing was sent"):
            kept = self._kept(run, round_, terms)
            if kept is not None:
                return kept
            self.limits.refuse(terms)
            self._refuse_excess(terms)
        self._step("checked")
        made = make()
        if not isinstance(made, bytes):
            raise TypeError(f"make gave {type(made).__name__}; allowed are bytes")
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

    def spent(self) -> tuple[Event, ...]:
        """Everything that was released of the data set, equal releases counted together."""
        rows = self._run(
            "SELECT noise_multiplier, sampling_rate, steps, law, variance, sampling FROM spent "
            "WHERE data = ?",
            self.data,
        )
        return merge(_ledger_file.event(*row) for row in rows)

    def answered(self) -> int:
        """Rounds that were answered, all runs together."""
        ((rounds,),) = self._run("SELECT COUNT(*) FROM sent WHERE data = ?", self.data)
        return int(rounds)

    def guarantee(self) -> Guarantee:
        """What holds for the data set after everything that was released, in all runs."""
        with self._explained("what was spent is unknown"):
            return self.limits.budget.guarantee(self.spent())

    def forget(self, run: str, before: int) -> None:
        """Drop the bytes of a run's messages before a round; their charges stay.

        Args:
            run: Name of the run.
            before: First round that is kept. The earlier ones can not be sent again.

        Raises:
            RefusedError: ``run`` is no text that the file can hold.
        """
        _refuse_name(run, "run")
        with self._explained("nothing was dropped"), self._alone():
            self._run(
                "UPDATE sent SET message = NULL WHERE data = ? AND run = ? AND round < ?",
                self.data,
                run,
                operator.index(before),
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
            "SELECT noise_multiplier, sampling_rate, clip, steps, law, variance, sampling, message "
            "FROM sent WHERE data = ? AND run = ? AND round = ?",
            self.data,
            run,
            round_,
        )
        if not rows:
            return None
        ((sigma, q, clip, steps, law, variance, sampling, message),) = rows
        before = Terms(sigma, q, clip, steps, law, variance or None, sampling)
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
        if self.limits.rounds is not None:
            self.limits.refuse_round(self.answered())
        self.limits.budget.refuse_excess([*self.spent(), terms.event], f"data={self.data!r}")

    def _write(self, run: str, round_: int, terms: Terms, message: bytes) -> None:
        row = {
            "data": self.data, "run": run, "round": round_, "message": message,
            "sampling_rate": float(terms.sampling_rate), "clip": float(terms.clip),
            "noise_multiplier": float(terms.noise_multiplier), "steps": int(terms.steps),
            "law": terms.law, "variance": float(terms.variance or 0),
            "sampling": terms.sampling, "charged": int(terms.event.steps),
        }  # fmt: skip
        self._run(
            "INSERT INTO spent VALUES (:data, :sampling_rate, :noise_multiplier, :law, :variance, "
            ":sampling, :charged) ON CONFLICT DO UPDATE SET steps = steps + excluded.steps",
            **row,
        )
        self._run(
            "INSERT INTO sent VALUES (:data, :run, :round, :sampling_rate, :noise_multiplier, "
            ":steps, :clip, :message, :law, :variance, :sampling)",
            **row,
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
            "SELECT COUNT(*), noise_multiplier, sampling_rate, steps, law, variance, sampling "
            "FROM sent WHERE data = ? GROUP BY 2, 3, 4, 5, 6, 7",
            self.data,
        )
        if merge(_messages(*row) for row in sent) != self.spent():
            raise LedgerError(
                f"ledger={self.path}: the messages of data={self.data!r} do not add up to what "
                "was spent; the file was changed by something else"
            )

    def _run(self, statement: str, *values: object, **named: object) -> list[tuple[Any, ...]]:
        if os.getpid() != self._process:
            raise LedgerError(
                f"ledger={self.path} was opened by process {self._process}, which forked; open it "
                "again in this one"
            )
        return self._db.execute(statement, named or values).fetchall()

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
        except (sqlite3.Error, ValueError) as error:  # the latter: what it holds is no release
            raise LedgerError(f"ledger={self.path}: {error}; {consequence}") from error


def _refuse_name(name: object, what: str) -> None:
    """Refuse a name that SQLite would not keep, or would keep as something else."""
    try:
        if isinstance(name, str):
            name.encode()
            return
        why = "it must be text"
    except UnicodeEncodeError:
        why = "it has no UTF-8 form: half of a surrogate pair"
    raise RefusedError(f"{what}={name!r} cannot be the name of an account: {why}")


def _messages(
    count: int, sigma: float, q: float, steps: int, law: Law, variance: float, sampling: Sampling
) -> Event:
    """What so many messages on the same terms released."""
    one = released(sigma, q, steps, law, variance or None, sampling)
    return replace(one, steps=count * one.steps)
