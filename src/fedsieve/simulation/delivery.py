"""From the messages of a cohort to the stack that the server sees: the wire, and the attacker."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from fedsieve.aggregation import GramRule, TooManyFaultyClients
from fedsieve.algorithms.central import Central
from fedsieve.compression.codecs import WireError
from fedsieve.poisoning import MessageAttack, Scene
from fedsieve.simulation.clock import Clock
from fedsieve.simulation.job import Job

CODEC = 3  # label of the codecs' dither in the public stream


@dataclass(frozen=True)
class Delivered:
    """A stack as the server decoded it.

    Args:
        stack: Messages (m, k), by client id; a row that could not be decoded is NaN.
        senders: Who sent each row.
        bits: What all of them took on the wire.
    """

    stack: Tensor
    senders: tuple[int, ...]
    bits: int


def computes(job: Job, round_: int, client: int) -> bool:
    """Whether the client follows the protocol, on poisoned data or not, before it may cheat."""
    if client not in job.byzantine or not _forges(job, round_):
        return True
    return isinstance(job.attack, MessageAttack) and job.attack.uses_own


def deliver(
    job: Job,
    round_: int,
    messages: Tensor,
    computing: tuple[int, ...],
    present: tuple[int, ...],
    clock: Clock,
    last: Tensor | None = None,
) -> Delivered:
    """Send the cohort's messages over the wire; malicious clients put theirs beside them.

    Args:
        job: The run.
        round_: Number of the round.
        messages: What the protocol computed, (len(computing), k).
        computing: Who computed it.
        present: Everybody who sends something this round, sorted.
        clock: Books the phases "codec" and "attack".
        last: How the last aggregate moved the model, (k,), where the attack looks at it.
    """
    forgers = tuple(c for c in present if c in set(job.byzantine)) if _forges(job, round_) else ()
    cheats = set(forgers)
    followers = tuple(c for c in computing if c not in cheats)
    rows = [i for i, c in enumerate(computing) if c not in cheats]
    own = messages[[i for i, c in enumerate(computing) if c in cheats]]
    with clock("codec"):
        kept = messages[rows] if len(own) else messages
        honest, bits = _over_the_wire(job, round_, kept, followers)
    if not forgers or not len(honest):
        return Delivered(honest, followers, bits)
    with clock("attack"):
        crafted = _craft(job, round_, honest, own, followers, forgers, last)
    with clock("codec"):
        forged, more = _over_the_wire(job, round_, crafted, forgers)
    senders = followers + forgers
    order = sorted(range(len(senders)), key=senders.__getitem__)
    stack = torch.cat([honest, forged])[order]
    return Delivered(stack, tuple(sorted(senders)), bits + more)


def _forges(job: Job, round_: int) -> bool:
    return isinstance(job.attack, MessageAttack) and job.attacked(round_)


def _over_the_wire(
    job: Job, round_: int, messages: Tensor, senders: tuple[int, ...]
) -> tuple[Tensor, int]:
    decoded, bits = torch.empty_like(messages), 0
    public = job.streams.public(CODEC)  # a lossless code draws nothing from it
    for i, (message, client) in enumerate(zip(messages, senders, strict=True)):
        key = public if job.codec.lossless else job.streams.public(CODEC, round_, client)
        wire = job.codec.encode(message, key)
        bits += 8 * len(wire)
        try:
            decoded[i] = job.codec.decode(wire, messages.shape[1]).to(decoded.device)
        except WireError:
            decoded[i] = math.nan  # an unreadable message is a faulty client's
    return decoded, bits


def _craft(
    job: Job,
    round_: int,
    honest: Tensor,
    own: Tensor,
    followers: tuple[int, ...],
    forgers: tuple[int, ...],
    last: Tensor | None,
) -> Tensor:
    """The rows that the malicious clients send, knowing the honest ones and the exchange.

    A message of several halves is crafted half by half, as the exchange aggregates it.
    """
    attack, rule, algorithm = job.attack, job.rule, job.algorithm
    assert isinstance(attack, MessageAttack)
    readable = honest.isfinite().all(dim=1)
    senders = tuple(c for c, kept in zip(followers, readable.tolist(), strict=True) if kept)
    senders += forgers
    if len(senders) == len(forgers) or not job.outvotes(len(followers) + len(forgers)):
        return honest.new_zeros(len(forgers), honest.shape[1])  # the round will be skipped
    weights = job.weights_of(senders)

    def aggregate(stack: Tensor) -> Tensor:
        job.require_outvoting(len(stack))
        return rule(stack, weights if len(stack) == len(senders) else None)

    def combined(stack: Tensor) -> Tensor:
        return algorithm.combined(stack, senders, aggregate)

    weigh = None  # by inner products alone, where the exchange is one Gram rule
    if isinstance(algorithm, Central) and isinstance(rule, GramRule):
        weigh = partial(rule.weights, client_weights=weights)
    halves = [
        attack.craft(
            Scene(
                honest=half,
                f=len(forgers),
                aggregate=combined,
                rng=job.streams.attacker(round_),
                own=mine if len(own) else None,
                weigh=weigh,
                refusals=(TooManyFaultyClients,),
                last=last,
            )
        )
        for half, mine in zip(
            honest[readable].chunk(algorithm.halves, dim=1),
            own.chunk(algorithm.halves, dim=1),
            strict=True,
        )
    ]
    return torch.cat(halves, dim=1)
