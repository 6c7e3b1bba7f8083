"""Which records a client visits: Poisson batches, epochs that are private, mini-batches.

A draw never depends on which other clients take part or on the process in which the client runs:
mini-batches are keyed by (round, client, step) in the data stream. Poisson batches carry part of
the privacy and come from the secret inclusion stream.

The alternatives visit a record at most once in an epoch of t = floor(N_i / b) steps, with b public:

* *shuffled*: batches of exactly b, cut from a secret permutation of the epoch. The N_i - t b
  records that would not fill another batch are left out of this epoch;
* *allocated*: every record is put into one of the t steps, uniformly and independently of all
  others. None is left out; a batch has N_i / t records on average, between b and b (1 + 1/t).

Their draws are keyed by (client, epoch) in the secret order stream: the t steps of an epoch, in
whatever process, have to agree on one draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fedsieve.learning.data import Batch, Shards
from fedsieve.randomness import Streams


def poisson(
    shards: Shards, clients: Sequence[int], batch: float, streams: Streams, *labels: int
) -> Batch:
    """Each client's Poisson batch: every record joins independently with probability q = batch/N_i.

    Args:
        shards: The clients' data.
        clients: Ids of the clients that draw.
        batch: Expected batch size, a public constant, 0 < batch <= N_i.
        streams: The inclusion stream is used, which nobody can draw a second time unless a
            simulation seeds its noise.
        labels: Further keys of the draw: round and step.

    Returns:
        A batch whose counts vary and may be 0; it is never truncated or refilled, because the
        amplification by sampling holds for independent inclusions only.
    """
    chosen = []
    for client in clients:
        part = shards.parts[client]
        q = batch / len(part)
        inclusion = streams.inclusion(client, *labels).random(len(part)) < q
        chosen.append(part[inclusion])
    return _joined(shards, chosen)


def epoch_steps(records: int, batch: int) -> int:
    """Steps t of an epoch of so many records in batches of public size."""
    return max(records // batch, 1)


def shuffled(
    shards: Shards, clients: Sequence[int], batch: int, streams: Streams, steps: Sequence[int]
) -> Batch:
    """Each client's next batch of a secret permutation of its records.

    Args:
        shards: The clients' data.
        clients: Ids of the clients that draw.
        batch: Size b of every batch, a public constant, 1 <= b <= N_i.
        streams: The order stream is used.
        steps: How many steps each client has taken before: where in which epoch it is.
    """
    chosen = []
    for client, step in zip(clients, steps, strict=True):
        part = shards.parts[client]
        epoch, place = divmod(step, epoch_steps(len(part), batch))
        order = streams.order(client, epoch).permutation(len(part))
        chosen.append(part[order[place * batch : (place + 1) * batch]])
    return _joined(shards, chosen)


def allocated(
    shards: Shards, clients: Sequence[int], batch: int, streams: Streams, steps: Sequence[int]
) -> Batch:
    """The records that were put into each client's next step of its epoch; possibly none.

    Args:
        shards: The clients' data.
        clients: Ids of the clients that draw.
        batch: Public size b that decides the number of steps, 1 <= b <= N_i.
        streams: The order stream is used.
        steps: How many steps each client has taken before: where in which epoch it is.
    """
    chosen = []
    for client, step in zip(clients, steps, strict=True):
        part = shards.parts[client]
        t = epoch_steps(len(part), batch)
        epoch, place = divmod(step, t)
        chosen.append(part[streams.order(client, epoch).integers(t, size=len(part)) == place])
    return _joined(shards, chosen)


def minibatch(
    shards: Shards,
    clients: Sequence[int],
    batch: int,
    streams: Streams,
    round_: int = 0,
    step: int = 0,
) -> Batch:
    """Each client's mini-batch of min(batch, N_i) records: a slice of its shuffled records.

    The steps of a round walk through one shuffle after another, so no record is visited twice
    before every full batch of the shuffle has been; what does not fill a batch is left out.
    """
    chosen = []
    for client in clients:
        part = shards.parts[client]
        size = min(batch, len(part))
        epoch, slice_ = divmod(step, len(part) // size)
        shuffled = _shuffled(streams, len(part), client, round_, epoch)
        chosen.append(part[shuffled[slice_ * size : (slice_ + 1) * size]])
    return _joined(shards, chosen)


@lru_cache(maxsize=1)  # a client's steps follow one another in the same shuffle
def _shuffled(
    streams: Streams, size: int, client: int, round_: int, epoch: int
) -> NDArray[np.int64]:
    return streams.data(client, round_, epoch).permutation(size)


def _joined(shards: Shards, chosen: list[np.ndarray]) -> Batch:
    return shards.gather(np.concatenate(chosen), tuple(len(c) for c in chosen))
