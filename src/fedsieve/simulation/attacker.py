"""What a message attack gets to see of a round, and what it makes of it.

The attack itself is a pure function of its `Scene`; here the scene is set from the job: the honest
messages as the server decodes them, all that the server then does with a message (the malicious
rows pass the codec too), the round's linear map, and what the attack chose to remember.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedsieve.aggregation import GramRule, Rule, TooManyFaultyClients
from fedsieve.algorithms.central import Central
from fedsieve.algorithms.form import Algorithm, Broadcast, Tensors
from fedsieve.algorithms.parts import Parts, StochasticGradient
from fedsieve.algorithms.trust import SharedNoise
from fedsieve.learning.layout import Subspace
from fedsieve.poisoning import Knowledge, MessageAttack, Scene
from fedsieve.privacy import GaussianMechanism, IntegerMechanism
from fedsieve.simulation.job import Job

NEARLY_NONE = 1e-200
"""A noise multiplier that vanishes in the rounding of any message."""

GUESS = 1
"""Label of the attacker's guess of the server's draws, in the attacker's stream."""


@dataclass(frozen=True)
class Known:
    """What an attack may know besides the messages.

    Args:
        broadcast: What the clients were told, with the round's subspace.
        memory: What the attack remembers, each name behind the number of the half it is about.
        last: The last aggregate as the public model tells it, (k,), where the attack asks.
        noise: Per half the standard deviation of the noise in the honest messages.
        model: The public model in the units of a message, (d,), where the attack asks.
    """

    broadcast: Broadcast | None = None
    memory: Tensors = field(default_factory=dict)
    last: Tensor | None = None
    noise: tuple[float | None, ...] = ()
    model: Tensor | None = None


def public_model(job: Job, theta: Tensor) -> Tensor | None:
    """The model theta (d,) in the units of a message, where the attack asks for it.

    It is what the messages are about that would take a model from 0 to theta.
    """
    if not isinstance(job.attack, MessageAttack) or not job.attack.uses_model:
        return None
    return -job.algorithm.told(theta, torch.zeros_like(theta))


def client_rule(attack: MessageAttack, algorithm: Algorithm) -> Algorithm:
    """The algorithm as the attack's own clients follow it."""
    if attack.omits_noise:
        algorithm = without_noise(algorithm, pairs=attack.omits_pairs)
    parts = _parts(algorithm)
    if attack.near is None or parts is None:
        return algorithm
    return _with(algorithm, replace(parts.gradient, near=attack.near))


def without_noise(algorithm: Algorithm, *, pairs: bool = True) -> Algorithm:
    """The algorithm of clients who leave the privacy noise out; the same one without privacy.

    Args:
        algorithm: That of the others.
        pairs: Whether they leave out what they share with others as well, where clients do.
    """
    parts = _parts(algorithm)
    if parts is None or (mechanism := parts.gradient.mechanism) is None:
        return algorithm
    if isinstance(mechanism, IntegerMechanism):  # a lattice is as fine as its noise allows
        clip, b, unit = mechanism.clip, mechanism.batch, mechanism.unit
        form, split = mechanism.clipping, mechanism.split
        mechanism = GaussianMechanism(clip, NEARLY_NONE, b, unit, form, split)
    silent = replace(mechanism, noise_multiplier=NEARLY_NONE)
    noise = parts.gradient.noise
    if isinstance(noise, SharedNoise):  # it has the scales of both parts
        kept = 0.0 if pairs else noise.correlated.correlated
        shared = replace(noise.correlated, independent=NEARLY_NONE, correlated=kept)
        noise = replace(noise, correlated=shared)
    return _with(algorithm, replace(parts.gradient, mechanism=silent, noise=noise))


@dataclass(frozen=True)
class Craft:
    """One round of a message attack.

    Args:
        job: The run.
        round: Number of the round.
        ids: Who sent the honest rows.
        forgers: The malicious clients present.
        known: What there is to know besides the messages.
        decoded: What a lossy wire makes of malicious rows (f, k); ``None`` for a lossless one.
    """

    job: Job
    round: int
    ids: tuple[int, ...]
    forgers: tuple[int, ...]
    known: Known
    decoded: Callable[[Tensor], Tensor] | None = None

    def __call__(self, honest: Tensor, own: Tensor | None) -> tuple[Tensor, Tensors]:
        """The rows that the malicious clients send, and what they remember.

        A message of several halves is crafted half by half, as the exchange aggregates it.

        Args:
            honest: Finite messages (h >= 1, k) as the server decodes them.
            own: What the forgers would honestly send, (f, k); ``None`` if they computed nothing.

        Raises:
            ValueError: The attack gives something else than one message for each forger.
        """
        attack, halves = self.job.attack, self.job.algorithm.halves
        assert isinstance(attack, MessageAttack)
        theirs = honest.chunk(halves, dim=1)
        mine = (None,) * halves if own is None else own.chunk(halves, dim=1)
        rows: list[Tensor] = []
        memory: Tensors = {}
        for half in range(halves):
            scene = self._scene(half, theirs[half], mine[half])
            rows.append(_fitting(attack, attack.craft(scene), scene))
            kept = attack.remember(scene, rows[-1])
            memory |= {f"{half}.{name}": tensor for name, tensor in kept.items()}
        return torch.cat(rows, dim=1), memory

    def _scene(self, half: int, honest: Tensor, own: Tensor | None) -> Scene:
        job, prefix = self.job, f"{half}."
        broadcast = self.known.broadcast
        return Scene(
            honest=honest,
            f=len(self.forgers),
            aggregate=self._aggregate,
            rng=job.streams.attacker(self.round),
            own=own,
            weigh=self._weigh if self._by_gram else None,
            refusals=(TooManyFaultyClients,),
            subspace=None if broadcast is None else broadcast.subspace,
            foresee=_foresight(job.algorithm, self.round),
            noise_std=self.known.noise[half] if self.known.noise else None,
            ids=self.ids,
            last=self.known.last if half == 0 else None,  # the model tells of the first alone
            model=self.known.model if half == 0 else None,
            memory={
                name.removeprefix(prefix): tensor
                for name, tensor in self.known.memory.items()
                if name.startswith(prefix)
            },
        )

    @cached_property
    def _rule(self) -> Rule:
        """The server's rule; where it draws, with a guess unless the true draws are granted."""
        if Knowledge.RANDOMNESS in self.job.knowledge:
            return self.job.rule
        guess = self.job.streams.attacker(self.round, 0, GUESS)
        return self.job.rule.for_round(int(guess.integers(2**63)))

    @cached_property
    def _order(self) -> list[int]:
        """Position of each sender's row in a stack with the honest first, in the server's order.

        It matters to rules that draw: which clients share a bucket depends on their places.
        """
        senders = self.ids + self.forgers
        return sorted(range(len(senders)), key=senders.__getitem__)

    @property
    def _by_gram(self) -> bool:
        """Whether the exchange is one Gram rule on the messages as they are."""
        algorithm = self.job.algorithm
        as_sent = isinstance(algorithm, Central) and algorithm.parts.gradient.noise.admits_all
        return as_sent and isinstance(self._rule, GramRule) and self.decoded is None

    def _weigh(self, G: NDArray[np.float64]) -> NDArray[np.float64]:
        """The rule's weights by the Gram of a stack (h + f, h + f), honest rows first."""
        rule, order = self._rule, self._order
        assert isinstance(rule, GramRule)
        weights = self.job.weights_of(sorted(self.ids + self.forgers))
        found = np.empty(len(G))
        found[order] = rule.weights(G[np.ix_(order, order)], client_weights=weights)
        return found

    def _aggregate(self, stack: Tensor) -> Tensor:
        """All that the server does with a half of a stack (h + f, k), honest rows first."""
        job, senders = self.job, tuple(sorted(self.ids + self.forgers))
        weights = job.weights_of(senders)

        def rule(stack: Tensor) -> Tensor:
            job.require_outvoting(len(stack))
            return self._rule(stack, weights if len(stack) == len(senders) else None)

        if self.decoded is not None and self.forgers:
            h = len(self.ids)
            stack = torch.cat([stack[:h], self.decoded(stack[h:])])
        if self._order != list(range(len(stack))):
            stack = stack[self._order]
        return job.algorithm.combined(stack, senders, rule)


def _fitting(attack: MessageAttack, rows: Any, scene: Scene) -> Tensor:
    """What a caller's own attack gives, as messages like those of the honest clients."""
    wanted = (scene.f, scene.honest.shape[1])
    if not isinstance(rows, Tensor) or tuple(rows.shape) != wanted:
        found = f"shape {tuple(rows.shape)}" if isinstance(rows, Tensor) else f"a {type(rows)}"
        raise ValueError(
            f"{attack!r} gave {found} as the malicious messages; needed is a tensor of shape "
            f"{wanted}, one row for each malicious client; scene.rows makes it of one message"
        )
    return rows.to(scene.honest)


def _with(algorithm: Algorithm, gradient: StochasticGradient) -> Algorithm:
    parts = replace(algorithm.parts, gradient=gradient)  # type: ignore[attr-defined]
    changed: Algorithm = replace(algorithm, parts=parts)  # type: ignore[type-var]
    return changed


def _parts(algorithm: Algorithm) -> Parts | None:
    """What the algorithm is composed of; a caller's own algorithm may have no parts."""
    parts = getattr(algorithm, "parts", None)
    return parts if isinstance(parts, Parts) else None


def _foresight(algorithm: Algorithm, round_: int) -> Callable[[int], Subspace] | None:
    """The i-th plan after the one of this round, where plans change and follow from a seed."""
    parts = _parts(algorithm)
    if parts is None or parts.planner.learns or not parts.planner.projection.refresh:
        return None
    planner, refresh = parts.planner, parts.planner.projection.refresh

    def foresee(i: int) -> Subspace:
        later = (round_ // refresh + i) * refresh
        plan = planner.projection.plan(planner.layout, later, planner.seed, None)
        return plan.to(planner.device)

    return foresee
