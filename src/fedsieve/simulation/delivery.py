"""From the messages of a cohort to the stack that the server sees: the wire, and the attacker."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fedsieve.aggregation import GramRule, TooManyFaultyClients
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


def computes(job: Job, client: int) -> bool:
    """Whether the client follows the protocol, on poisoned data or not, before it may cheat."""
    attack = job.attack
    return client not in job.byzantine or not isinstance(attack, MessageAttack) or attack.uses_own


def deliver(
    job: Job,
    round_: int,
    messages: Tensor,
    computing: tuple[int, ...],
    present: tuple[int, ...],
    clock: Clock,
) -> Delivered:
    """Send the cohort's messages over the wire; malicious clients put theirs beside them.

    Args:
        job: The run.
        round_: Number of the round.
        messages: What the protocol computed, (len(computing), k).
        computing: Who computed it.
        present: Everybody who sends something this round, sorted.
        clock: Books the phases "codec" and "attack".
    """
    cheats = {c for c in present if c in job.byzantine} if _forges(job) else set()
    followers = tuple(c for c in computing if c not in cheats)
    rows = [i for i, c in enumerate(computing) if c in followers]
    with clock("codec"):
        honest, bits = _over_the_wire(
            job, round_, messages[rows] if cheats else messages, followers
        )
    if not cheats or not len(honest):
        return Delivered(honest, followers, bits)
    own = [i for i, c in enumerate(computing) if c in cheats]
    with clock("attack"):
        crafted = _craft(job, round_, honest, len(cheats), messages[own] if own else None)
    forgers = tuple(sorted(cheats))
    with clock("codec"):
        forged, more = _over_the_wire(job, round_, crafted, forgers)
    senders = followers + forgers
    order = sorted(range(len(senders)), key=senders.__getitem__)
    stack = torch.cat([honest, forged])[order]
    return Delivered(stack, tuple(sorted(senders)), bits + more)


def _forges(job: Job) -> bool:
    return isinstance(job.attack, MessageAttack)


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


def _craft(job: Job, round_: int, honest: Tensor, f: int, own: Tensor | None) -> Tensor:
    """The rows (f, k) that the malicious clients send, knowing the honest ones."""
    attack, rule = job.attack, job.rule
    assert isinstance(attack, MessageAttack)
    readable = honest[honest.isfinite().all(dim=1)]
    if not len(readable):
        return honest.new_zeros(f, honest.shape[1])
    scene = Scene(
        honest=readable,
        f=f,
        aggregate=rule,
        rng=job.streams.attacker(round_),
        own=own,
        weigh=rule.weights if isinstance(rule, GramRule) else None,
        refusals=(TooManyFaultyClients,),
    )
    return attack.craft(scene)
