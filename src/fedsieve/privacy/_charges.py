"""What clients released, as the ledger holds it and as it is written down."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Charge = tuple[float, float, int]
"""Sampling rate, noise multiplier, steps."""

Client = int | str

Spent = tuple[Charge, ...]
"""What one client has released: a charge for each (sampling rate, noise multiplier), sorted."""


def compact(groups: Mapping[Charge, list[Client]]) -> list[list[Any]]:
    """Charges as they are written: [rate, noise multiplier, steps, clients].

    A list [first, last] among the clients stands for all numbers from first to last.
    """
    return [[float(q), float(s), int(t), _ranges(names)] for (q, s, t), names in groups.items()]


def _ranges(clients: list[Client]) -> list[Any]:
    if len(clients) == 1:  # of a thousand clients that differ in size, each by itself
        return clients
    found: list[Any] = []
    for client in sorted(clients, key=lambda c: (isinstance(c, str), c)):
        last = found[-1] if found else None
        if isinstance(last, list) and client == last[1] + 1:
            last[1] = client
        elif isinstance(last, int) and client == last + 1:
            found[-1] = [last, client]
        else:
            found.append(client)
    return found


def each(charges: Iterable[list[Any]]) -> Iterator[tuple[Client, Charge]]:
    """The clients of written charges one by one."""
    for q, sigma, steps, names in charges:
        charge = q, sigma, steps
        for name in names:
            if isinstance(name, list):
                for client in range(name[0], name[1] + 1):
                    yield client, charge
            else:
                yield name, charge


def stretches(released: Mapping[int, list[Any]]) -> list[list[Any]]:
    """Rounds with equal charges that follow one another, as [first, last, charges]."""
    found: list[list[Any]] = []
    for round_, charges in sorted(released.items()):
        if found and found[-1][1] == round_ - 1 and found[-1][2] == charges:
            found[-1][1] = round_
        else:
            found.append([round_, round_, charges])
    return found


def add(spent: Spent, charge: Charge) -> Spent:
    """What a client has spent after one more charge."""
    q, sigma, steps = charge
    if len(spent) == 1:  # the usual case
        ((p, s, t),) = spent
        if p == q and s == sigma:
            return ((q, sigma, t + steps),)
    totals = {(p, s): t for p, s, t in spent}
    totals[q, sigma] = totals.get((q, sigma), 0) + steps
    return tuple((p, s, t) for (p, s), t in sorted(totals.items()) if t)


def frontier(histories: Iterable[Spent]) -> list[Spent]:
    """The histories without those that spent no more than another one in any respect."""
    rates: dict[tuple[float, int], float] = {}
    front: list[Spent] = []
    for history in histories:
        if len(history) == 1:
            ((q, sigma, steps),) = history
            rates[sigma, steps] = max(q, rates.get((sigma, steps), 0.0))
        else:
            front.append(history)
    front.sort()
    ahead: list[Charge] = []  # those of more steps come first
    for (sigma, steps), q in sorted(rates.items(), key=lambda r: (-r[0][1], r[0][0], -r[1])):
        if not any(s <= sigma and p >= q for p, s, _ in ahead):
            ahead.append((q, sigma, steps))
    return front + [(charge,) for charge in ahead]


def counted_up(charge: Charge) -> Charge:
    """The charge with its steps counted up to the next of eight in an octave."""
    q, sigma, steps = charge
    step = 1 << max(steps.bit_length() - 4, 0)
    return q, sigma, -(-steps // step) * step


def worse(one: Charge, other: Charge) -> Charge:
    """What reveals no less than either."""
    return max(one[0], other[0]), min(one[1], other[1]), max(one[2], other[2])
