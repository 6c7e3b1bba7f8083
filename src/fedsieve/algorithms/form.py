"""The form of a federated algorithm: a client rule, an exchange, and the state between rounds.

A client rule is written once, for a stack of m clients: every tensor of client state has a leading
client dimension. A simulation passes the whole cohort or one client at a time, a deployed client is
a stack of one; there is no second implementation. What happens to the messages is the *exchange*: a
server that aggregates them, or neighbours in a graph that average among themselves.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from torch import Tensor

from fedsieve.learning.data import Shards
from fedsieve.learning.layout import Subspace
from fedsieve.privacy import Trust, Unit
from fedsieve.randomness import Streams

Tensors = dict[str, Tensor]
"""State of one stage: name -> tensor."""

Info = dict[str, float]
"""Diagnostics of one stage, averaged over the clients that report them."""

Releases = dict[int | str, tuple[float, float, int]]
"""Client -> (sampling rate, noise multiplier, steps): what its messages of a round release."""

Offers = frozenset[tuple[Unit, Trust]]
"""Units that an algorithm can protect, each with those whom the clients may have to trust."""

Aggregate = Callable[[Tensor], Tensor]
"""The robust rule of the run as the exchange calls it: (m, k) -> (k,)."""


@dataclass(frozen=True)
class Broadcast:
    """What every client is told at the start of a round; all of it is public.

    Args:
        round: Number of the round, from 0.
        tensors: The shared tensors that the client rule reads.
        subspace: The projection as planned for this round.
        previous: The projection of the round before, where it was another one.
        numbers: Float32 numbers that one client receives this round.
    """

    round: int
    tensors: Tensors
    subspace: Subspace
    previous: Subspace | None
    numbers: int


@dataclass(frozen=True)
class Cohort:
    """The clients that compute in a round, and what they compute with.

    Args:
        ids: The clients' identities; they key data and noise streams.
        rows: Row of each client in the memory tensors (a simulation's rows are the ids).
        shards: The clients' records.
        streams: The random streams.
        steps: Local steps that each client manages; a straggler manages fewer.
        peers: Everybody whom the round asked, whoever computes here: they may share noise.
        absent: Those of them who deliver nothing.
        taken: Steps that each client took in earlier rounds, which say where in its epoch it is;
            all at their beginning if left out.
    """

    ids: tuple[int, ...]
    rows: tuple[int, ...]
    shards: Shards
    streams: Streams
    steps: tuple[int, ...]
    peers: tuple[int, ...] = ()
    absent: tuple[int, ...] = ()
    taken: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.taken:
            object.__setattr__(self, "taken", (0,) * len(self.ids))

    def some(self, positions: Sequence[int]) -> Cohort:
        """The cohort that consists of the clients at these positions."""
        ids, rows, steps, taken = (
            tuple(held[i] for i in positions)
            for held in (self.ids, self.rows, self.steps, self.taken)
        )
        return replace(self, ids=ids, rows=rows, steps=steps, taken=taken)

    def one(self, position: int) -> Cohort:
        """The cohort that consists of the client at this position alone."""
        return self.some([position])


@dataclass(frozen=True)
class Sent:
    """What a stack of m clients sends: a message each (m, k), and diagnostics.

    ``shares`` (m,), float32, are the clients' noisy shares of gradients within the clip, where the
    clip follows a quantile; they travel beside the messages.
    """

    messages: Tensor
    info: Info = field(default_factory=dict)
    shares: Tensor | None = None


class Algorithm(ABC):
    """A federated algorithm.

    ``one_by_one`` says how a cohort is best computed on a CPU: all clients in one pass (they share
    one parameter vector) or each by itself (they take local steps).
    """

    one_by_one: bool = False
    undone: ClassVar[tuple[str, ...]] = ()
    """Client memory that is taken back after a round in which nothing could be exchanged."""
    halves: int = 1
    """How many vectors, each aggregated by itself, travel in one message."""
    offers: ClassVar[Offers] = frozenset({("record", "local")})
    """What a privacy mechanism can protect here, and with noise of whom."""
    one_gradient: bool = False
    """Whether a client releases one gradient at the shared parameters a round, and its message is
    that gradient where it keeps no momentum."""

    def adapt(self, shared: Tensors, shares: Tensor) -> Tensors:
        """Shared state after the senders' shares (m,) of gradients within the clip are in."""
        return shared

    def skip(self, shared: Tensors, broadcast: Broadcast) -> Tensors:
        """Shared state after a round in which nothing could be exchanged; the model stays."""
        return shared

    def prepare(self, broadcast: Broadcast, memory: Tensors) -> None:  # noqa: B027 - most need not
        """Bring every client's memory up to this round, whether or not the client takes part."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Numbers in one message."""

    @abstractmethod
    def start(self, theta: Tensor) -> tuple[Tensors, Tensors]:
        """Shared state and client memory (leading dimension n) for initial parameters (d,)."""

    @abstractmethod
    def broadcast(self, shared: Tensors, round_: int) -> Broadcast:
        """What the clients are told in this round."""

    @abstractmethod
    def client(self, broadcast: Broadcast, memory: Tensors, cohort: Cohort) -> Sent:
        """Compute the cohort's messages; updates ``memory`` in place, in the cohort's rows."""

    @abstractmethod
    def exchange(
        self,
        shared: Tensors,
        broadcast: Broadcast,
        stack: Tensor,
        senders: tuple[int, ...],
        aggregate: Aggregate,
    ) -> Tensors:
        """Shared state after the decoded messages (m, k) of the senders have been exchanged."""

    @abstractmethod
    def combined(self, stack: Tensor, senders: tuple[int, ...], aggregate: Aggregate) -> Tensor:
        """What the exchange makes of one half of a stack (m, k): (k,), as an attacker sees it."""

    def noise_std(
        self, broadcast: Broadcast, memory: Tensors, cohort: Cohort
    ) -> tuple[float | None, ...]:
        """Standard deviation of the privacy noise in each number of a message, half by half.

        Of the messages that `client` has just computed for this cohort: the root mean square over
        clients and numbers of what noise, of this round or kept from earlier ones, has changed.
        Follows from public facts. ``None`` where a client's message carries no noise.
        """
        return (None,) * self.halves

    def told(self, before: Tensor, after: Tensor) -> Tensor:
        """The last aggregate as everybody could see it, in the public model (d,) it moved.

        In the units of a message; of a server's momentum where it keeps such.
        """
        return after - before

    @abstractmethod
    def parameters(self, shared: Tensors) -> Tensor:
        """The parameters to evaluate: (d,), or (n, d) where every client has its own."""

    @abstractmethod
    def releases(self, cohort: Cohort) -> Releases:
        """Per client the noisy releases of one round: (sampling rate, noise multiplier, steps).

        Empty without a privacy mechanism.
        """
