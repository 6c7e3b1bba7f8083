"""Personalised peer-to-peer averaging over a graph: no server.

P. Vanhaesebrouck, A. Bellet, M. Tommasi, "Decentralized Collaborative Learning of Personalized
Models over Networks", AISTATS 2017, in its synchronous form::

    node i:    y_i = theta_i after K local steps;  send y_i to the neighbours
    exchange:  theta_i <- (1 - a) y_i + a F({y_j : j = i or (i, j) an edge})

F is the average, or a robust rule that every node applies to its own neighbourhood. a = 1 on a
complete graph is federated averaging; a < 1 keeps each node's model its own. A node whose
neighbourhood is too small this round for its rule to outvote f keeps y_i.

With a privacy mechanism every one of the K gradients is noised, and K releases are charged for each
round in which the node is awake. With K = 1 and all of a node's records in the batch that is the
Gaussian mechanism of A. Bellet, R. Guerraoui, M. Taziki, M. Tommasi, AISTATS 2018; its own
accounting is in `fedsieve.privacy.peer_noise`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fedsieve.aggregation import TooManyFaultyClients
from fedsieve.algorithms.form import (
    Aggregate,
    Algorithm,
    Broadcast,
    Cohort,
    Releases,
    Sent,
    Tensors,
)
from fedsieve.algorithms.local import local_noise, local_steps
from fedsieve.algorithms.parts import Parts
from fedsieve.algorithms.trust import require_offered
from fedsieve.compression.projections import is_identity
from fedsieve.registry import register

Graph = Literal["ring", "complete"]


@register("algorithm", "peer-to-peer", paper="Vanhaesebrouck et al., AISTATS 2017")
@dataclass(frozen=True)
class PeerToPeer(Algorithm):
    """Every client keeps its own model and averages it with those of its neighbours in a graph.

    Args:
        parts: What the algorithm is composed of, with the identity projection.
        lr: Local step size > 0.
        mixing: Weight a in (0, 1] of the neighbourhood against the own model.
        graph: ``ring`` (two neighbours) or ``complete``.

    Raises:
        ValueError: A projection other than the identity; the nodes exchange models, not updates.
            Or a mechanism at client level, or with noise that is not each node's own.
    """

    parts: Parts
    lr: float
    mixing: float = 0.5
    graph: Graph = "ring"

    one_by_one = True

    def __post_init__(self) -> None:
        gradient = self.parts.gradient
        require_offered("peer-to-peer", self.offers, gradient.noise, gradient.mechanism)
        if not is_identity(self.parts.planner.first):
            raise ValueError(
                "peer-to-peer exchanges models, which do not lie in a shared subspace; "
                "use projection.name='identity'"
            )
        if not 0 < self.mixing <= 1:
            raise ValueError(f"mixing={self.mixing} must lie in (0, 1]")

    @property
    def width(self) -> int:
        """Numbers in one message: a whole model."""
        return self.parts.k

    def neighbourhood(self, node: int) -> tuple[int, ...]:
        """The node and its neighbours, sorted."""
        n = self.parts.n
        if self.graph == "complete":
            return tuple(range(n))
        return tuple(sorted({(node - 1) % n, node, (node + 1) % n}))

    def start(self, theta: Tensor) -> tuple[Tensors, Tensors]:
        """theta_i = theta_0 for every node; what a node remembers is its model, which is shared."""
        return {"models": theta.expand(self.parts.n, -1).clone()}, {}

    def broadcast(self, shared: Tensors, round_: int) -> Broadcast:
        """Each node's own model; what it received were its neighbours' models."""
        subspace, _ = self.parts.planner.subspaces(shared, round_)
        received = (len(self.neighbourhood(0)) - 1) * subspace.d
        return Broadcast(round_, {"models": shared["models"]}, subspace, None, received)

    def client(self, broadcast: Broadcast, memory: Tensors, cohort: Cohort) -> Sent:
        """y_i."""
        start = broadcast.tensors["models"][torch.tensor(cohort.ids)]
        y, _, info = local_steps(
            self.parts.gradient, start, broadcast.subspace, cohort, broadcast.round, self.lr
        )
        return Sent(y, info)

    def noise_std(
        self, broadcast: Broadcast, memory: Tensors, cohort: Cohort
    ) -> tuple[float | None, ...]:
        """That of the local steps; the model that they started from has been told before."""
        return (local_noise(self.parts.gradient, broadcast, cohort, self.lr),)

    def exchange(
        self,
        shared: Tensors,
        broadcast: Broadcast,
        stack: Tensor,
        senders: tuple[int, ...],
        aggregate: Aggregate,
    ) -> Tensors:
        """theta_i <- (1 - a) y_i + a F(neighbourhood), for every node that is awake."""
        models = shared["models"].clone()
        mixed = self._mixed(stack, senders, aggregate)
        for y, node in zip(stack, senders, strict=True):
            near = mixed[node]
            models[node] = y if near is None else (1 - self.mixing) * y + self.mixing * near
        return {"models": models}

    def combined(self, stack: Tensor, senders: tuple[int, ...], aggregate: Aggregate) -> Tensor:
        """The mean of what the neighbourhoods agree on."""
        agreed = [m for m in self._mixed(stack, senders, aggregate).values() if m is not None]
        if not agreed:
            raise TooManyFaultyClients("no neighbourhood is large enough for the rule")
        return torch.stack(agreed).mean(0)

    def _mixed(
        self, stack: Tensor, senders: tuple[int, ...], aggregate: Aggregate
    ) -> dict[int, Tensor | None]:
        """F of each node's neighbourhood; ``None`` where too few of it are awake to outvote f."""
        row = {client: i for i, client in enumerate(senders)}
        found: dict[tuple[int, ...], Tensor | None] = {}
        mixed: dict[int, Tensor | None] = {}
        for node in senders:
            near = tuple(sorted(row[j] for j in self.neighbourhood(node) if j in row))
            if near not in found:
                try:
                    found[near] = aggregate(stack[torch.tensor(near)])
                except TooManyFaultyClients:
                    found[near] = None
            mixed[node] = found[near]
        return mixed

    def told(self, before: Tensor, after: Tensor) -> Tensor:
        """The mean of the nodes' models: messages are models, too."""
        return after

    def parameters(self, shared: Tensors) -> Tensor:
        """theta_i of every node, (n, d)."""
        return shared["models"]

    def releases(self, cohort: Cohort) -> Releases:
        """K noisy gradients a round."""
        return self.parts.gradient.releases(cohort, local=True)
