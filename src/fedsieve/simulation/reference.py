"""The update that a server trusts: what a client would send that held the server's own records.

X. Cao, M. Fang, J. Liu, N. Z. Gong, "FLTrust: Byzantine-robust federated learning via trust
bootstrapping", NDSS 2021: the server has a small clean root data set and, in every round, makes the
step on it that the clients make on theirs. The step ends in the messages' own space R^k, clipped
where theirs are, but without noise: root records are public.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedsieve.algorithms.form import Algorithm, Broadcast, Cohort, Tensors
from fedsieve.algorithms.parts import Parts, StochasticGradient
from fedsieve.algorithms.trust import Mechanism, OwnNoise
from fedsieve.learning import sampling
from fedsieve.learning.data import Batch, Shards
from fedsieve.privacy import Released
from fedsieve.randomness import Streams


@dataclass(frozen=True)
class Reference:
    """The server's own update in every round.

    Args:
        algorithm: The run's, made of `root_parts`.
        shards: The clients' records with the root records as those of one client more.
        streams: The run's streams.
        steps: Local steps.
    """

    algorithm: Algorithm
    shards: Shards
    streams: Streams
    steps: int

    def start(self, theta: Tensor, clients: Tensors) -> Tensors:
        """What the server remembers of its own updates, where the clients remember theirs."""
        _, memory = self.algorithm.start(theta)
        return {name: tensor for name, tensor in memory.items() if name in clients}

    def __call__(self, broadcast: Broadcast, memory: Tensors) -> Tensor:
        """The update (k,), changing ``memory`` in place; 0, which trusts nobody, if not finite."""
        last = self.shards.n - 1
        ids, steps = (last,), (self.steps,)
        cohort = Cohort(ids, (0,), self.shards, self.streams, steps, peers=ids)
        self.algorithm.prepare(broadcast, memory)
        root = self.algorithm.client(broadcast, memory, cohort).messages[0]
        return root if bool(root.isfinite().all()) else torch.zeros_like(root)


def root_parts(parts: Parts, records: int) -> Parts:
    """The clients' parts as a server uses them that holds so many public records."""
    gradient = parts.gradient
    mechanism, batch = gradient.mechanism, min(gradient.batch, records)
    if mechanism is not None and gradient.per_record:
        mechanism = replace(mechanism, batch=batch)
    public = RootGradient(gradient.gradients, batch, mechanism, Unnoised(), gradient.adaptive)
    return replace(parts, gradient=public, n=1)


@dataclass(frozen=True)
class Unnoised(OwnNoise):
    """No noise: what is clipped is sent as it is."""

    def at_client(
        self,
        mechanism: Mechanism,
        vectors: Tensor,
        cohort: Cohort,  # noqa: ARG002
        round_: int,  # noqa: ARG002
        step: int = 0,  # noqa: ARG002
    ) -> Released:
        """Sums over the batch size."""
        messages = vectors / mechanism.batch
        return Released(messages, 0.0, float(messages.norm(dim=1).mean()))


@dataclass(frozen=True)
class RootGradient(StochasticGradient):
    """A gradient of public records: clipped like the clients', on mini-batches of a fixed size."""

    def draw(self, cohort: Cohort, round_: int, step: int = 0) -> Batch:
        """A mini-batch; no sampling has to be secret."""
        return sampling.minibatch(
            cohort.shards, cohort.ids, self.batch, cohort.streams, round_, step
        )
