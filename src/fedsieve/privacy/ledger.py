"""The budget ledger of a simulation: every noisy release, written down before it is sent.

One JSON line per round goes to an append-only journal and is flushed before `Ledger.charge`
returns; what the process wrote survives its death by any signal. A line that was torn in the middle
counts as spent: its charge is unknown, so every known client pays its costliest release once more
(until its round runs again, where that repeats the same noise).

Two kinds of noise, two meanings of a round that runs again after a crash:

* *repeatable* (a simulation's noise seed): the noise is a function of seed, round, client and step,
  so the run re-sends the identical message, and (round, client) is charged once;
* not repeatable (operating system entropy): a second draw is a second release and is charged again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fedsieve.privacy.accounting import compose, max_steps
from fedsieve.privacy.guarantee import Event, Guarantee, Relation, Unit, check_target, merge

Charge = tuple[float, float, int]
"""Sampling rate, noise multiplier, steps."""

Client = int | str
History = tuple[Event, ...]


class BudgetExceededError(RuntimeError):
    """The release would spend more than the limit; it was neither recorded nor may it be sent."""


class Ledger:
    """What every client has released, and the guarantee that follows.

    Each client has its own data, so the guarantee is that of the client who spent most.

    Args:
        delta: In (0, 1).
        relation: Neighbouring relation.
        repeatable: The noise is a deterministic function of (round, client, step).
        limit: Epsilon that no client may exceed; ``None``: no limit.
        journal: File to append to, which must not hold records yet (`restore` continues one);
            ``None`` keeps the record in memory only, where a crash forgets it.
        noise_source: Where the noise comes from, in words; written into every record.
        unit: What is protected.

    Raises:
        ValueError: An argument out of range, or a journal that already holds records.

    Example:
        >>> ledger = Ledger(1e-5, "add-remove", repeatable=True)
        >>> ledger.charge(0, {"a": (0.01, 1.0, 1), "b": (0.02, 1.0, 1)})
        >>> ledger.spent(), ledger.guarantee().sampling_rate
        ({'a': 1, 'b': 1}, 0.02)
    """

    def __init__(
        self,
        delta: float,
        relation: Relation,
        *,
        repeatable: bool,
        limit: float | None = None,
        journal: Path | None = None,
        noise_source: str = "",
        unit: Unit = "record",
    ) -> None:
        check_target(delta, relation, unit)
        if limit is not None and not 0 < limit < math.inf:
            raise ValueError(f"limit={limit} must be finite and > 0, or None")
        if journal is not None and journal.exists() and journal.stat().st_size:
            raise ValueError(
                f"journal={journal} already holds records; Ledger.restore continues it"
            )
        self.delta, self.relation, self.unit = delta, relation, unit
        self.repeatable, self.limit, self.noise_source = repeatable, limit, noise_source
        self.journal = journal
        self._records: list[dict[str, Any] | None] = []
        self._torn = 0
        self._charges: dict[Client, dict[tuple[float, float], int]] = {}
        self._costliest: dict[Client, Event] = {}
        self._released: dict[tuple[int, Client], Charge] = {}

    def charge(self, round: int, clients: Mapping[Client, Charge]) -> None:  # noqa: A002
        """Record a round's releases; only afterwards may the messages be sent.

        Args:
            round: Number of the round, >= 0.
            clients: Number or name of a client to (sampling rate, noise multiplier, steps).

        Raises:
            BudgetExceededError: A client would exceed the limit; nothing was recorded.
            ValueError: An impossible charge, or a repeated round with other terms: equal noise at
                two scales would cancel.
        """
        fresh: dict[Client, Charge] = {}
        for name, (q, sigma, steps) in clients.items():
            Event(sigma, q, steps)
            client = name if isinstance(name, str) else int(name)
            charge = float(q), float(sigma), int(steps)
            held = self._released.get((round, client)) if self.repeatable else None
            if held is None:
                fresh[client] = charge
            elif held != charge:
                raise ValueError(
                    f"round {round} of client {client} was released with (sampling rate, noise "
                    f"multiplier, steps) = {held}; repeating it with {charge} would reuse its noise"
                )
        if not fresh:
            return
        self._refuse_excess(fresh)
        groups: dict[Charge, list[Client]] = {}
        for client, charge in fresh.items():
            groups.setdefault(charge, []).append(client)
        record = {
            "round": int(round),
            "noise": self.noise_source,
            "charges": [[*charge, names] for charge, names in groups.items()],
        }
        if self.journal is not None:
            self._append(record)
        self._apply(record)

    def spent(self) -> dict[Client, int]:
        """Steps that each client has released."""
        return {client: sum(e.steps for e in self._events(client)) for client in self._charges}

    def guarantee(self, *, rounded: bool = False) -> Guarantee:
        """The guarantee that holds for every client: that of the one who spent most.

        Clients who did no more than another one in any respect are not computed.

        Args:
            rounded: Count step totals up to the next of eight in an octave (but not beyond the
                limit): an upper bound for display, computed some 50 times in a run, not each round.
        """
        if self._torn and not self._charges:
            return Guarantee(
                math.inf, self.delta, self.unit, self.relation, "none: torn journal", ()
            )
        histories = {self._events(client) for client in self._charges} or {()}
        if rounded:
            histories = {tuple(_rounded(e) for e in history) for history in histories}
        found = [compose(h, self.delta, self.relation, self.unit) for h in _frontier(histories)]
        worst = max(found, key=lambda g: g.epsilon)
        if rounded and self.limit is not None and not self._torn:
            return replace(worst, epsilon=min(worst.epsilon, self.limit))
        return worst

    def state(self) -> dict[str, Any]:
        """Everything, as plain JSON values, for a checkpoint."""
        return {
            "delta": self.delta,
            "relation": self.relation,
            "unit": self.unit,
            "repeatable": self.repeatable,
            "limit": self.limit,
            "noise_source": self.noise_source,
            "records": list(self._records),
        }

    @classmethod
    def restore(cls, state: Mapping[str, Any], journal: Path | None = None) -> Ledger:
        """The ledger of a checkpoint, brought up to date with what the journal holds beyond it.

        Args:
            state: From `state`.
            journal: The run's journal; records that it lacks are appended.

        Raises:
            ValueError: The journal belongs to another run.
        """
        settings = {key: value for key, value in state.items() if key != "records"}
        ledger = cls(**settings)
        held = list(state["records"])
        written = _read(journal) if journal is not None and journal.exists() else []
        shared = min(len(held), len(written))
        if held[:shared] != written[:shared]:
            raise ValueError(f"journal={journal} does not belong to the run of this checkpoint")
        ledger.journal = journal
        for record in held + written[shared:]:
            ledger._apply(record)
        if journal is not None:
            if written and not journal.read_bytes().endswith(b"\n"):
                with journal.open("ab") as file:
                    file.write(b"\n")  # a torn line stays, as a line of its own
            for record in held[shared:]:
                ledger._append(record)
        return ledger

    def _events(self, client: Client) -> History:
        events = [Event(s, q, t) for (q, s), t in self._charges[client].items()]
        if self._torn:
            one = self._costliest[client]
            events.append(Event(one.noise_multiplier, one.sampling_rate, one.steps * self._torn))
        return merge(events)

    def _refuse_excess(self, fresh: Mapping[Client, Charge]) -> None:
        if self.limit is None:
            return
        clients: dict[History, Client] = {}
        for client, (q, sigma, steps) in fresh.items():
            held = self._events(client) if client in self._charges else ()
            clients.setdefault(merge([*held, Event(sigma, q, steps)]), client)
        for history in _frontier(clients):
            if not self._fits(history, self.limit):
                would = compose(history, self.delta, self.relation, self.unit).epsilon
                raise BudgetExceededError(
                    f"client {clients[history]} would reach epsilon={would:.4f} at "
                    f"delta={self.delta:g}, more than limit={self.limit:g}; nothing was released"
                )

    def _fits(self, history: History, limit: float) -> bool:
        if len(history) == 1:  # the usual case: one look-up a round
            (e,) = history
            allowed = max_steps(
                limit, e.noise_multiplier, e.sampling_rate, self.delta, self.relation
            )
            return e.steps <= allowed
        return compose(history, self.delta, self.relation, self.unit).epsilon <= limit

    def _apply(self, record: dict[str, Any] | None) -> None:
        self._records.append(record)
        if record is None:
            self._torn += 1
            return
        if self.repeatable:
            self._torn = 0  # the torn round was run again, or its message was never sent
        for q, sigma, steps, names in record["charges"]:
            for client in names:
                totals = self._charges.setdefault(client, {})
                totals[q, sigma] = totals.get((q, sigma), 0) + steps
                event = Event(sigma, q, steps)
                held = self._costliest.get(client, event)
                self._costliest[client] = max(held, event, key=_cost)
                if self.repeatable:
                    self._released[record["round"], client] = (q, sigma, steps)

    def _append(self, record: dict[str, Any] | None) -> None:
        assert self.journal is not None
        with self.journal.open("ab") as file:
            file.write(json.dumps(record).encode() + b"\n")


def _read(journal: Path) -> list[dict[str, Any] | None]:
    """The journal's records; ``None`` for a torn line."""
    records: list[dict[str, Any] | None] = []
    for line in journal.read_bytes().splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        records.append(record if isinstance(record, dict) else None)
    return records


def _frontier(histories: Iterable[History]) -> list[History]:
    """The histories without those that spent no more than another one in any respect."""
    front: list[History] = []
    for history in sorted(
        histories, key=lambda h: [(-e.steps, e.noise_multiplier, -e.sampling_rate) for e in h]
    ):
        if not any(_dominates(other, history) for other in front):
            front.append(history)
    return front


def _dominates(other: History, history: History) -> bool:
    if len(other) != 1 or len(history) != 1:
        return False
    (a,), (b,) = other, history
    return (
        a.noise_multiplier <= b.noise_multiplier
        and a.sampling_rate >= b.sampling_rate
        and a.steps >= b.steps
    )


def _rounded(event: Event) -> Event:
    step = 1 << max(event.steps.bit_length() - 4, 0)
    return replace(event, steps=-(-event.steps // step) * step)


def _cost(event: Event) -> float:
    return event.steps * (event.sampling_rate / event.noise_multiplier) ** 2
