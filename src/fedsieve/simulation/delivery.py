"""From the messages of a cohort to the stack that the server sees: the wire, and the attacker."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fedsieve.algorithms.form import Tensors
from fedsieve.compression.codecs import WireError
from fedsieve.poisoning import MessageAttack
from fedsieve.simulation.attacker import Craft, Known
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
        memory: What the attack remembers; see `fedsieve.simulation.attacker.Known`.
    """

    stack: Tensor
    senders: tuple[int, ...]
    bits: int
    memory: Tensors = field(default_factory=dict)


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
    known: Known | None = None,
) -> Delivered:
    """Send the cohort's messages over the wire; malicious clients put theirs beside them.

    Args:
        job: The run.
        round_: Number of the round.
        messages: What the protocol computed, (len(computing), k).
        computing: Who computed it.
        present: Everybody who sends something this round, sorted.
        clock: Books the phases "codec" and "attack".
        known: What an attack knows besides the messages.
    """
    known = known or Known()
    forgers = tuple(c for c in present if c in set(job.byzantine)) if _forges(job, round_) else ()
    cheats = set(forgers)
    followers = tuple(c for c in computing if c not in cheats)
    rows = [i for i, c in enumerate(computing) if c not in cheats]
    own = messages[[i for i, c in enumerate(computing) if c in cheats]]
    with clock("codec"):
        kept = messages[rows] if len(own) else messages
        honest, bits = _over_the_wire(job, round_, kept, followers)
    if not forgers or not len(honest):
        return Delivered(honest, followers, bits, known.memory)
    with clock("attack"):
        crafted, memory = _crafted(job, round_, honest, own, followers, forgers, known)
    with clock("codec"):
        forged, more = _over_the_wire(job, round_, crafted, forgers)
    senders = followers + forgers
    order = sorted(range(len(senders)), key=senders.__getitem__)
    stack = torch.cat([honest, forged])[order]
    return Delivered(stack, tuple(sorted(senders)), bits + more, memory)


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


def _crafted(
    job: Job,
    round_: int,
    honest: Tensor,
    own: Tensor,
    followers: tuple[int, ...],
    forgers: tuple[int, ...],
    known: Known,
) -> tuple[Tensor, Tensors]:
    """The malicious rows and the attack's memory; zeros in a round that will be skipped."""
    readable = honest.isfinite().all(dim=1)
    ids = tuple(c for c, kept in zip(followers, readable.tolist(), strict=True) if kept)
    if not ids or not job.outvotes(len(followers) + len(forgers)):
        return honest.new_zeros(len(forgers), honest.shape[1]), known.memory

    def decoded(rows: Tensor) -> Tensor:
        return _over_the_wire(job, round_, rows, forgers)[0]

    craft = Craft(job, round_, ids, forgers, known, None if job.codec.lossless else decoded)
    return craft(honest[readable], own if len(own) else None)
