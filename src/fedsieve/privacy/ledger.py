"""The budget ledger of a simulation: every noisy release, written down before it is sent.

One JSON line per round goes to an append-only journal and is on the disk (fsync) before
`Ledger.charge` returns. The journal *is* the record: a checkpoint notes how many of its lines it
has seen and their sha256, and `Ledger.restore` reads the lines again, those written after the
checkpoint included. A line that was torn in the middle counts as spent, although nothing is sent
before its line is whole: a disk may have lost what it said it had. Its charge is unknown, so every
client, on record or not, pays the worst of all releases on record once more: the largest sampling
rate, the least noise, the most steps (until its round runs again, where that repeats the same
message). A charge that makes this worst worse, the first one on record above all, is accepted only
if everybody can pay for the torn line at the new terms, too.

Two kinds of randomness, two meanings of a round that runs again after a crash:

* *repeatable* (a simulation's noise seed): batch and noise are functions of noise seed, round,
  client and step, so the run re-sends the identical message, and (round, client) is charged once;
* not repeatable (operating system entropy): the second run draws another Poisson batch and other
  noise. Its message is one more release of the same kind, and is charged once more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fedsieve.privacy._budget import Budget
from fedsieve.privacy._charges import (
    Charge,
    Client,
    Spent,
    add,
    compact,
    counted_up,
    each,
    frontier,
    stretches,
    worse,
)
from fedsieve.privacy._journal import Journal, Record
from fedsieve.privacy.guarantee import (
    Event,
    Guarantee,
    Law,
    Relation,
    Sampling,
    Unit,
    check_events,
    kept_variance,
)


class Ledger:
    """What every client has released, and the guarantee that follows.

    Each client has its own data, so the guarantee is that of the client who spent most.

    Args:
        delta: In (0, 1).
        relation: Neighbouring relation.
        repeatable: Batch and noise are deterministic functions of (round, client, step).
        limit: Epsilon that no client may exceed; ``None``: no limit.
        journal: File to append to, which must not hold records yet (`restore` continues one);
            ``None`` keeps the record in memory only, where a crash forgets it.
        noise_source: Where the noise comes from, in words; written into every record.
        unit: What is protected.
        law: Of the noise of every release; Skellam noise has `guarantee.LEAST_VARIANCE` or more.
        sampling: How records come to the steps. Where they take part once in an epoch, the steps of
            a charge are the epochs that begin with it; they may be none.

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
        law: Law = "gaussian",
        sampling: Sampling = "poisson",
    ) -> None:
        self._budget = Budget(limit, delta, relation, unit)
        check_events([_event((1.0, 1.0, 0), law, sampling)], relation)
        if journal is not None and journal.exists() and journal.stat().st_size:
            raise ValueError(
                f"journal={journal} already holds records; Ledger.restore continues it"
            )
        self.delta, self.relation, self.unit, self.law = delta, relation, unit, law
        self.sampling = sampling
        self.repeatable, self.limit, self.noise_source = repeatable, limit, noise_source
        self._journal = None if journal is None else Journal(journal)
        self._torn = 0
        self._spent: dict[Client, Spent] = {}
        self._worst: Charge | None = None  # of any release, in each respect
        self._released: dict[int, list[list[Any]]] = {}  # round -> charges as in a record

    def charge(self, round: int, clients: Mapping[Client, Charge]) -> None:  # noqa: A002
        """Record a round's releases; only afterwards may the messages be sent.

        Args:
            round: Number of the round, >= 0.
            clients: Number or name of a client to (sampling rate, noise multiplier, steps).

        Raises:
            BudgetExceededError: A client would exceed the limit; nothing was recorded.
            ValueError: An impossible charge, one that counts on the sampling of clients, or a
                repeated round with other terms: equal noise at two scales would cancel.
        """
        held = dict(each(self._released.get(round, ())))
        groups: dict[Charge, list[Client]] = {}
        for name, charge in clients.items():
            client = name if isinstance(name, str) else int(name)
            if client not in held:
                groups.setdefault(charge, []).append(client)
            elif held[client] != charge:
                raise ValueError(
                    f"round {round} of client {client} was released with (sampling rate, noise "
                    f"multiplier, steps) = {held[client]}; repeating it with {charge} would reuse "
                    "its noise"
                )
        if not groups:
            return
        check_events(self._events(tuple(groups)), self.relation, self.unit)
        self._refuse_excess(groups)
        record = {"round": int(round), "noise": self.noise_source, "charges": compact(groups)}
        self._append(record)
        self._apply(record)

    def spent(self) -> dict[Client, int]:
        """Steps that each client has released, or epochs that it has begun."""
        return {c: sum(steps for _, _, steps in self._history(c)) for c in self._spent}

    def guarantee(self, *, rounded: bool = False) -> Guarantee:
        """The guarantee that holds for every client: that of the one who spent most.

        Clients who did no more than another one in any respect are not computed.

        Args:
            rounded: Count step totals up to the next of eight in an octave (but not beyond the
                limit): an upper bound for display, computed some 50 times in a run, not each round.
        """
        if self._torn and not self._spent:
            return Guarantee(
                math.inf, self.delta, self.unit, self.relation, "none: torn journal", ()
            )
        histories = {self._history(client) for client in self._spent}
        if self._torn or not histories:
            histories.add(self._history(None))
        if rounded:
            histories = {tuple(counted_up(charge) for charge in history) for history in histories}
        worst = max(
            (self._budget.guarantee(self._events(h)) for h in frontier(histories)),
            key=lambda g: g.epsilon,
        )
        if rounded and self.limit is not None and not self._torn:
            return replace(worst, epsilon=min(worst.epsilon, self.limit))
        return worst

    def state(self) -> dict[str, Any]:
        """For a checkpoint, as plain JSON values: the settings, and how far the journal had got.

        Without a journal: what every client spent and, if noise repeats, who released in which
        rounds; equal neighbours share an entry.
        """
        settings = {
            "delta": self.delta,
            "relation": self.relation,
            "unit": self.unit,
            "law": self.law,
            "sampling": self.sampling,
            "repeatable": self.repeatable,
            "limit": self.limit,
            "noise_source": self.noise_source,
        }
        if self._journal is not None:
            return settings | {"journal": self._journal.state()}
        groups: dict[Charge, list[Client]] = {}
        for client, history in self._spent.items():
            for charge in history:
                groups.setdefault(charge, []).append(client)
        return settings | {"charges": compact(groups), "released": stretches(self._released)}

    @classmethod
    def restore(cls, state: Mapping[str, Any], journal: Path | None = None) -> Ledger:
        """The ledger of a checkpoint, brought up to date with what the journal holds beyond it.

        Args:
            state: From `state`.
            journal: The run's journal; one that does not exist yet holds no records.

        Raises:
            ValueError: The journal belongs to another run, or lacks records that the checkpoint
                has seen: what was spent is then unknown.
        """
        facts = dict(state)
        seen = facts.pop("journal", None)
        charges, released = facts.pop("charges", []), facts.pop("released", [])
        ledger = cls(**facts)
        if journal is None:
            if seen is not None:
                raise ValueError(
                    f"journal=None, but the checkpoint relies on {seen['records']} records of one"
                )
            ledger._released = {t: c for first, last, c in released for t in range(first, last + 1)}
            for client, charge in each(charges):
                ledger._spent[client] = add(ledger._spent.get(client, ()), charge)
            return ledger
        if charges:
            raise ValueError(
                f"journal={journal} cannot continue a checkpoint that was written without a journal"
            )
        ledger._take_over(Journal(journal, **(seen or {})))
        return ledger

    def _events(self, history: Spent) -> list[Event]:
        return [_event(charge, self.law, self.sampling) for charge in history]

    def _history(self, client: Client | None) -> Spent:
        """What a client (``None``: one who is not on record) has spent, torn lines included."""
        spent = () if client is None else self._spent.get(client, ())
        return self._with_torn(spent, self._worst)

    def _with_torn(self, spent: Spent, worst: Charge | None) -> Spent:
        if not self._torn or worst is None:
            return spent
        q, sigma, steps = worst
        return add(spent, (q, sigma, steps * self._torn))

    def _after(self, groups: Mapping[Charge, list[Client]]) -> Iterator[tuple[Client, Spent]]:
        """Who will have spent more after these charges, and what.

        A torn line is counted as it will be: by the worst terms on record, these charges included,
        and so for everybody if they make it worse. Where noise repeats, it is settled by them.
        """
        torn = self._torn and not self.repeatable
        worst = self._worst
        for charge in groups:
            worst = charge if worst is None else worse(worst, charge)
        charged = {client: charge for charge, names in groups.items() for client in names}
        for client, charge in charged.items():
            spent = add(self._spent.get(client, ()), charge)
            yield client, self._with_torn(spent, worst) if torn else spent
        if torn and worst != self._worst:
            for client, spent in self._spent.items():
                if client not in charged:
                    yield client, self._with_torn(spent, worst)

    def _refuse_excess(self, groups: Mapping[Charge, list[Client]]) -> None:
        if self.limit is None:
            return
        clients: dict[Spent, Client] = {}
        for client, history in self._after(groups):
            clients.setdefault(history, client)
        for history in frontier(clients):
            self._budget.refuse_excess(self._events(history), f"client {clients[history]}")

    def _apply(self, record: Record | None) -> None:
        if record is None:
            self._torn += 1
            return
        for client, charge in each(record["charges"]):
            self._spent[client] = add(self._spent.get(client, ()), charge)
            self._worst = worse(self._worst or charge, charge)
        if self.repeatable:
            self._torn = 0  # the torn round was run again, or its message was never sent
            round_, charges = record["round"], record["charges"]
            before, held = self._released.get(round_ - 1, []), self._released.get(round_, [])
            same = before == charges and not held  # as a rule: then they share their memory
            self._released[round_] = before if same else [*held, *charges]

    def _append(self, record: Record) -> None:
        if self._journal is not None:
            self._journal.append(record)

    def _take_over(self, journal: Journal) -> None:
        self._journal = journal
        for record in journal.found:
            whole = record is not None and {"round", "charges"} <= record.keys()
            self._apply(record if whole else None)
        journal.found.clear()


def _event(charge: Charge, law: Law, sampling: Sampling) -> Event:
    q, sigma, steps = charge
    return Event(sigma, q, steps, law, kept_variance(law), sampling)
