"""Everything that a simulation needs, as objects; `fedsieve.experiments.build` makes it by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedsieve.aggregation import Rule, TooManyFaultyClients, capped_shares
from fedsieve.algorithms.form import Algorithm
from fedsieve.compression.codecs import Codec
from fedsieve.learning.data import Shards
from fedsieve.poisoning import Attack, Knowledge
from fedsieve.privacy import Ledger
from fedsieve.randomness import Streams
from fedsieve.simulation.participation import Participation
from fedsieve.simulation.reference import Reference

Evaluate = Callable[[Tensor], tuple[float, float]]
"""Parameters (d,) -> (accuracy, loss) on the test set."""


@dataclass(frozen=True)
class Job:
    """A federation and what it is to do.

    Args:
        algorithm: Client rule and exchange.
        theta: Initial parameters (d,), float32, on the device that computes.
        shards: The clients' records.
        evaluate: Measures parameters on the test set.
        streams: The random streams.
        rule: Robust aggregation rule.
        participation: How cohorts are drawn.
        codec: What every message is coded with.
        rounds: Number of rounds.
        steps: Local steps of a client per round.
        byzantine: Ids of the malicious clients.
        attack: What they do; ``None``: they behave.
        knowledge: What they are granted to know, where that is more than the attack needs.
        attack_start: First round of the attack; the malicious clients behave until then.
        attack_stop: Round before which it ends; ``None``: it does not.
        attack_success: Measures on the test set, in [0, 1], what a backdoor has achieved.
        ledger: Where every noisy release is charged; ``None`` without privacy.
        reference: What the server computes itself for a rule that trusts that; ``None``: nothing.
        client_weights: What the clients weigh in the rule before the cap, such as their public
            sizes, (n,); ``None``: all equal.
        weight_cap: Largest weight among a round's messages, as a multiple of the equal one; see
            `fedsieve.aggregation.capped_shares`.
        evaluate_every: Rounds between two evaluations; the last round is always evaluated.
        workers: Worker processes for algorithms whose clients compute one by one; 0 computes them
            in this process.
        own_records: Whether the records are the run's own and may move to shared memory; a caller's
            data set is copied there.
    """

    algorithm: Algorithm
    theta: Tensor
    shards: Shards
    evaluate: Evaluate
    streams: Streams
    rule: Rule
    participation: Participation
    codec: Codec
    rounds: int
    steps: int = 1
    byzantine: tuple[int, ...] = ()
    attack: Attack | None = None
    knowledge: Knowledge = Knowledge.NOTHING
    attack_start: int = 0
    attack_stop: int | None = None
    attack_success: Callable[[Tensor], float] | None = None
    ledger: Ledger | None = None
    reference: Reference | None = None
    client_weights: Tensor | None = None
    weight_cap: float = math.inf
    evaluate_every: int = 1
    workers: int = 0
    own_records: bool = False

    @property
    def device(self) -> torch.device:
        """The device that computes."""
        return self.theta.device

    def attacked(self, round_: int) -> bool:
        """Whether the malicious clients attack in this round."""
        stopped = self.attack_stop is not None and round_ >= self.attack_stop
        return self.attack is not None and round_ >= self.attack_start and not stopped

    def weights_of(self, senders: Sequence[int]) -> Tensor | None:
        """Weights of these clients in the rule, none of them above the cap."""
        if self.client_weights is None:
            return None
        return capped_shares(self.client_weights[list(senders)], self.weight_cap)

    def outvotes(self, messages: int) -> bool:
        """Whether so many messages are enough for the rule to outvote its f."""
        return self.rule.f <= self.rule.breakdown(messages)

    def require_outvoting(self, messages: int) -> None:
        """Refuse too few messages.

        Raises:
            TooManyFaultyClients: The rule is not defined for its f among so many.
        """
        if not self.outvotes(messages):
            raise TooManyFaultyClients(f"{self.rule!r} is not defined for {messages} messages")
