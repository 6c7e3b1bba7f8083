"""Who takes part in a round, who drops out of it, and who is too slow for all of its steps."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from fedsieve.randomness import Streams

COHORT, MISHAPS = 1, 2  # labels of the two draws in the public stream


@dataclass(frozen=True)
class Attendance:
    """The clients that deliver a message in a round.

    Args:
        ids: Who they are.
        steps: How many local steps each manages.
        drawn: Everybody whom the round asked, those who deliver nothing included.
    """

    ids: tuple[int, ...]
    steps: tuple[int, ...]
    drawn: tuple[int, ...]

    @property
    def absent(self) -> tuple[int, ...]:
        """Who was asked and delivers nothing."""
        present = set(self.ids)
        return tuple(client for client in self.drawn if client not in present)


@dataclass
class StepCounts:
    """How many steps every client has taken: where in its epoch it is.

    A round that runs again repeats its messages bit by bit, or else draws others. In the first case
    it begins with the same counts; in the second with what its first attempt left, because the
    batches of that may have been sent.

    Args:
        repeatable: Whether a round that runs again repeats its messages.
    """

    repeatable: bool
    _totals: Counter[int] = field(default_factory=Counter)
    _round: int = -1
    _before: dict[int, int] = field(default_factory=dict)

    def take(self, round_: int, attendance: Attendance) -> dict[int, int]:
        """Steps that each client of the round took before it; its own are counted from now on."""
        if round_ != self._round or not self.repeatable:
            self._round = round_
            self._before = {client: self._totals[client] for client in attendance.ids}
            self._totals.update(dict(zip(attendance.ids, attendance.steps, strict=True)))
        return self._before


@dataclass(frozen=True)
class Participation:
    """How cohorts are drawn.

    Args:
        clients: Number of clients in the federation.
        size: Clients drawn for a round, without replacement, 1 <= size <= clients.
        dropout: Probability that a drawn client delivers nothing.
        stragglers: Probability that a drawn client manages only part of its local steps (uniformly
            1 .. steps - 1); where there is only one step, it sends nothing, like a drop-out.
        reliable: Clients that never fail (the malicious ones, in the worst case).
    """

    clients: int
    size: int
    dropout: float = 0.0
    stragglers: float = 0.0
    reliable: tuple[int, ...] = ()

    @property
    def everybody(self) -> bool:
        """Whether every client is drawn, and delivers, in every round."""
        return self.size == self.clients and not self.dropout and not self.stragglers

    def draw(self, streams: Streams, round_: int, steps: int) -> Attendance:
        """Who delivers in this round; the same answer whenever it is asked."""
        drawn = list(range(self.clients))
        if self.size < self.clients:
            chosen = streams.public(COHORT, round_).choice(self.clients, self.size, replace=False)
            drawn = sorted(int(c) for c in chosen)
        if not self.dropout and not self.stragglers:
            return Attendance(tuple(drawn), (steps,) * len(drawn), tuple(drawn))
        luck = streams.public(MISHAPS, round_)
        ids, managed = [], []
        for client in drawn:
            lost, slow = luck.random(2)
            part = int(luck.integers(1, steps)) if steps > 1 else 0
            if client in self.reliable:
                lost, slow = 1.0, 1.0
            count = part if slow < self.stragglers else steps
            if lost >= self.dropout and count:
                ids.append(client)
                managed.append(count)
        return Attendance(tuple(ids), tuple(managed), tuple(drawn))
