"""Who adds the noise: each client for itself, the clients together, or the server.

Every form takes the clipped vectors of a stack of clients to messages, and a stack of messages to
the aggregate. What is private is what comes out of them, so everything behind (momentum, the model)
is post-processing. They differ in who sees something with less noise than the statement needs:

    local          messages y_i = (v_i + sigma C Z_i) / b, aggregate F(y)      nobody
    distributed    y_i with noise that cancels between clients, F(y)           f + 1 colluders
    central        y_i = v_i / b, aggregate mean(y) + sigma C Z / (n b)        the server
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar, Protocol, get_args

import numpy as np
import torch
from torch import Tensor

from fedsieve.algorithms.form import Aggregate, Cohort, Offers
from fedsieve.learning.clipping import Clip
from fedsieve.privacy import (
    CorrelatedGaussian,
    GaussianMechanism,
    IntegerMechanism,
    Released,
    Trust,
    Unit,
)
from fedsieve.randomness import Streams

Mechanism = GaussianMechanism | IntegerMechanism
"""Clip and noise."""

LARGEST_MESSAGE = 2.0**10
"""Clips: the most that the server lets a message of summed records over b be long. An honest one is
about one clip long at most."""

EVERYTHING: Offers = frozenset(itertools.product(get_args(Unit), get_args(Trust)))
"""What algorithms offer that send one vector, computed once a round."""

WHOLE_UPDATES: Offers = frozenset(
    (unit, trust) for unit, trust in EVERYTHING if unit == "client" or trust == "local"
)
"""What algorithms offer that send an update of several steps: noise in every step at the client,
or any noise on the update as a whole."""


class Noise(Protocol):
    """Where the noise of a mechanism is added, and by whom; integer noise at its client alone."""

    trust: ClassVar[Trust]
    admits_all: ClassVar[bool]
    """Whether the server aggregates the messages as they arrive."""

    @property
    def against(self) -> str:
        """Against whom the statement holds."""
        ...

    def grid(self, mechanism: Mechanism) -> float:
        """Spacing of the public grid on which noised vectors lie."""
        ...

    def at_client(
        self,
        mechanism: Mechanism,
        vectors: Tensor,
        cohort: Cohort,
        round_: int,
        step: int = 0,
    ) -> Released:
        """What the cohort's clients send for their clipped vectors or sums of such, (m, k)."""
        ...

    def at_server(
        self, mechanism: Mechanism | None, stack: Tensor, round_: int, aggregate: Aggregate
    ) -> Tensor:
        """The aggregate (k,) of the messages (m, k) that arrived."""
        ...

    def admitted(self, mechanism: Mechanism | None, stack: Tensor) -> Tensor:
        """The messages (m, k) as the server aggregates them."""
        ...

    def multiplier(self, mechanism: Mechanism, cohort: Cohort) -> float:
        """Noise multiplier of a client's release in this round."""
        ...

    def std(self, mechanism: Mechanism, cohort: Cohort) -> float | None:
        """Standard deviation of what `at_client` adds to each number; ``None``: nothing."""
        ...


@dataclass(frozen=True)
class OwnNoise:
    """Local trust: each client adds all the noise that its statement needs."""

    trust: ClassVar[Trust] = "local"
    admits_all: ClassVar[bool] = True
    against: ClassVar[str] = "everybody who sees the messages, the server included"

    def grid(self, mechanism: Mechanism) -> float:
        """The mechanism's own."""
        return mechanism.grid

    def at_client(
        self,
        mechanism: Mechanism,
        vectors: Tensor,
        cohort: Cohort,
        round_: int,
        step: int = 0,
    ) -> Released:
        """Noise from each client's own stream."""
        return mechanism.release(vectors, _own_streams(cohort, round_, step))

    def at_server(
        self,
        mechanism: Mechanism | None,
        stack: Tensor,
        round_: int,
        aggregate: Aggregate,
    ) -> Tensor:
        """F of the messages."""
        return aggregate(stack)

    def admitted(self, mechanism: Mechanism | None, stack: Tensor) -> Tensor:
        """As they are."""
        return stack

    def multiplier(self, mechanism: Mechanism, cohort: Cohort) -> float:
        """Sigma."""
        return mechanism.noise_multiplier

    def std(self, mechanism: Mechanism, cohort: Cohort) -> float | None:
        """The mechanism's own."""
        return mechanism.noise_std


@dataclass(frozen=True)
class SharedNoise:
    """Distributed trust: a large part of a client's noise cancels with that of the others.

    Every two clients of a cohort share a secret stream. Where a client drops out, the others reveal
    what they shared with it; the accountant then counts it among the colluders.

    Args:
        correlated: The two parts of the noise.
        colluders: f, clients that may tell the server what they share, >= 0.

    Raises:
        ValueError: ``colluders`` is negative.
    """

    correlated: CorrelatedGaussian
    colluders: int

    trust: ClassVar[Trust] = "distributed"
    admits_all: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.colluders < 0:
            raise ValueError(f"colluders={self.colluders} must be >= 0")

    @property
    def against(self) -> str:
        """The server and the colluders."""
        return f"the server and up to {self.colluders} colluding clients"

    def grid(self, mechanism: Mechanism) -> float:
        """That of the independent part."""
        return self.correlated.grid

    def at_client(
        self,
        mechanism: Mechanism,
        vectors: Tensor,
        cohort: Cohort,
        round_: int,
        step: int = 0,
    ) -> Released:
        """Own noise, and that shared with every peer, less what was shared with absent ones."""

        def pair(i: int, j: int) -> np.random.Generator:
            return cohort.streams.pair(i, j, round_, step)

        own = _own_streams(cohort, round_, step)
        sent = self.correlated.release(vectors, own, pair, cohort.ids, cohort.peers)
        if not cohort.absent:
            return sent
        repaired = self.correlated.repair(sent.messages, cohort.absent, pair, cohort.ids)
        return Released(repaired, sent.noise_norm, sent.signal_norm)

    def at_server(
        self,
        mechanism: Mechanism | None,
        stack: Tensor,
        round_: int,
        aggregate: Aggregate,
    ) -> Tensor:
        """F of the messages."""
        return aggregate(stack)

    def admitted(self, mechanism: Mechanism | None, stack: Tensor) -> Tensor:
        """As they are."""
        return stack

    def multiplier(self, mechanism: Mechanism, cohort: Cohort) -> float:
        """The sigma of this round's cohort, for those who know the colluders' seeds."""
        return self.correlated.noise_multiplier(
            len(cohort.peers), self.colluders + len(cohort.absent)
        )

    def std(self, mechanism: Mechanism, cohort: Cohort) -> float | None:
        """Own noise, and that shared with every peer who is there."""
        return self.correlated.noise_std(max(len(cohort.peers) - len(cohort.absent), 1))


@dataclass(frozen=True)
class ServerNoise:
    """Central trust: the clients send clipped vectors, the server adds the noise to their mean.

    Valid for the mean alone. One vector enters it with weight 1/n, n public, so that a unit moves
    it by Delta / (n b); a robust rule may pass a single message on as a whole.

    Args:
        streams: The run's streams; the server's noise comes from them.
    """

    streams: Streams

    trust: ClassVar[Trust] = "central"
    admits_all: ClassVar[bool] = False
    against: ClassVar[str] = "everybody but the server, which sees the clients' clipped vectors"

    def grid(self, mechanism: Mechanism) -> float:
        """That of the sum over the clients."""
        return mechanism.grid

    def at_client(
        self,
        mechanism: Mechanism,
        vectors: Tensor,
        cohort: Cohort,
        round_: int,
        step: int = 0,
    ) -> Released:
        """The vectors over b: nothing is hidden from the server."""
        sent = vectors / mechanism.batch
        norms = torch.linalg.vector_norm(sent, dim=1, dtype=torch.float64)
        return Released(sent, 0.0, float(norms.mean()))

    def at_server(
        self, mechanism: Mechanism | None, stack: Tensor, round_: int, aggregate: Aggregate
    ) -> Tensor:
        """The mean over n, with noise on the sum."""
        if mechanism is None:
            return aggregate(stack)
        # in float64: beside the largest messages that are admitted, no digit of a record is rounded
        mean = aggregate(self.admitted(mechanism, stack).double())
        n, b = len(stack), mechanism.batch
        noised = mechanism.release((mean * (n * b))[None], [self.streams.noise(round_)])
        return (noised.messages[0] / n).to(stack)

    def admitted(self, mechanism: Mechanism | None, stack: Tensor) -> Tensor:
        """Unusable messages as zero: left out, they would raise every other one's weight.

        At client level the server clips once more, so that no client has more weight than its own.
        At record level it clips far above any honest message, which moves no two neighbours apart:
        a message without bound would drown the records, and the noise, in the sum's rounding.
        """
        if mechanism is None:
            return stack
        one = 1 / mechanism.batch if mechanism.unit == "client" else LARGEST_MESSAGE
        return clipped(stack, Clip(mechanism.clip * one))[0]

    def multiplier(self, mechanism: Mechanism, cohort: Cohort) -> float:
        """Sigma."""
        return mechanism.noise_multiplier

    def std(self, mechanism: Mechanism, cohort: Cohort) -> float | None:
        """A message carries none."""
        return None


def usable(vectors: Tensor) -> Tensor:
    """The vectors (m, k), those that are not finite as zero."""
    finite = vectors.isfinite().all(dim=1, keepdim=True)
    return torch.where(finite, vectors, 0.0)


def clipped(vectors: Tensor, clip: Clip) -> tuple[Tensor, Tensor]:
    """Each of the vectors (m, k) clipped as a whole, and the factors (m,) that it took.

    A vector that is not finite becomes zero, whatever else its client holds. Norms are taken in
    float64, where those of float32 numbers do not overflow; rounded back to float32, a clipped
    vector may be longer than C by 2^-24 of it, at most.
    """
    held = usable(vectors).double()
    factors = clip.factors(torch.linalg.vector_norm(held, dim=1))
    return (held * factors[:, None]).to(vectors), factors


def require_offered(name: str, offers: Offers, noise: Noise, mechanism: Mechanism | None) -> None:
    """Refuse a mechanism that an algorithm's messages are not made for.

    Raises:
        ValueError: With unit and trust, and what is allowed.
    """
    if mechanism is None:
        return
    if (mechanism.unit, noise.trust) not in offers:
        raise ValueError(
            f"unit={mechanism.unit!r} with trust={noise.trust!r}: {name} offers {listed(offers)}"
        )


def listed(offers: Offers) -> str:
    """The offers in words.

    Example:
        >>> listed(WHOLE_UPDATES)
        'record (trust local), client (trust central, distributed, local)'
    """
    units = sorted({unit for unit, _ in offers}, reverse=True)
    return ", ".join(
        f"{unit} (trust {', '.join(sorted(t for u, t in offers if u == unit))})" for unit in units
    )


def _own_streams(cohort: Cohort, round_: int, step: int) -> list[np.random.Generator]:
    return [cohort.streams.noise(client, round_, step) for client in cohort.ids]
