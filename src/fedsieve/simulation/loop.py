"""The round loop: one for every algorithm that is written as client rule and exchange.

A round: draw the cohort, tell it the shared state, charge the privacy ledger, compute the messages,
code and decode them, let the attacker put its rows beside them, exchange, evaluate. The state
between rounds is the tensors of algorithm and attack, the ledger and counters; all draws are keyed
by round, so a simulation restored from a checkpoint goes on as if it had never stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Self

import torch
from torch import Tensor

from fedsieve.aggregation import TooManyFaultyClients
from fedsieve.algorithms.central import Central
from fedsieve.algorithms.form import Broadcast, Cohort, Sent, Tensors
from fedsieve.poisoning import MessageAttack
from fedsieve.privacy import Guarantee
from fedsieve.simulation.attacker import Known, client_rule, public_model
from fedsieve.simulation.checkpoint import Checkpoint
from fedsieve.simulation.clock import Clock
from fedsieve.simulation.delivery import Delivered, computes, deliver
from fedsieve.simulation.executors import Executor, OneByOne, WholeCohort
from fedsieve.simulation.job import Job
from fedsieve.simulation.participation import Attendance, StepCounts
from fedsieve.simulation.recorder import Recorder, Row
from fedsieve.simulation.workers import Workers

SHARE_BITS = 32  # of the share of gradients within the clip, beside a message
RULE = 4  # label of the rule's draws in the public stream


class Simulation:
    """A federation between two rounds.

    Use it as a context manager: worker processes end with it. Computation in this process runs on
    one thread while the context is open, so that every way of running gives the same bits.

    Args:
        job: What to simulate.
    """

    def __init__(self, job: Job) -> None:
        # a job may be simulated twice, or anew from a checkpoint: never with the same shared noise,
        # nor with the same epochs
        self.job = replace(job, streams=job.streams.renewed())
        self.round = 0
        self._counts = StepCounts(repeatable=job.streams.noise_seed is not None)
        self.shared, self.memory = job.algorithm.start(job.theta)
        self.guarantee: Guarantee | None = None  # as of the last evaluation
        self._told: Tensor | None = None  # of the last aggregate, (d,), where the attack asks
        self.rule_memory: Tensors = {}
        self.attacker: Tensors = {}  # what the attack remembers
        own = job.reference
        self.root = {} if own is None else own.start(job.theta, self.memory)  # the server's memory
        self._executor: Executor | None = None
        self._threads = torch.get_num_threads()

    def __enter__(self) -> Self:
        torch.set_num_threads(1)
        return self

    def __exit__(self, *_: object) -> None:
        if self._executor is not None:
            self._executor.close()
            self._executor = None
        torch.set_num_threads(self._threads)

    @property
    def theta(self) -> Tensor:
        """Current parameters: (d,), or (n, d) where every client has its own."""
        return self.job.algorithm.parameters(self.shared)

    def step(self) -> Row:
        """Run one round and say what happened in it."""
        clock = Clock(self.job.device)
        attendance = self._attendance(self.round)
        broadcast = self.job.algorithm.broadcast(self.shared, self.round)
        job = self._job_of_round(broadcast, clock)
        row: Row = {"round": self.round}
        with clock("client"):
            job.algorithm.prepare(broadcast, self.memory)
            computing = self._computing(attendance)
            self._charge(computing)
            undone = self._held(computing)
            sent = self._compute(broadcast, computing)
        row.update(sent.info)
        clock.move("client", "sample", row.pop("seconds_sample", 0.0))
        last = None if self._told is None else broadcast.subspace.project(self._told)
        noise, model = self._noise(broadcast, computing), public_model(job, self._public())
        known = Known(broadcast, self.attacker, last, noise, model)
        delivered = deliver(
            job, self.round, sent.messages, computing.ids, attendance.ids, clock, known
        )
        self.attacker = delivered.memory
        row["bits_up"] = delivered.bits
        # of those who send something, so that both ways are divided by the same number of clients
        row["bits_down"] = 32 * broadcast.numbers * len(delivered.senders)
        watched = isinstance(job.attack, MessageAttack) and job.attack.uses_last
        before = self._public().clone() if watched else None
        with clock("server"):
            row.update(self._exchange(job, broadcast, delivered, clock))
            row["bits_up"] += self._adapt(sent, computing, delivered, skipped=row["skipped"])
            if row["skipped"]:
                for name, rows in undone.items():
                    self.memory[name][list(computing.rows)] = rows
        if before is not None and not row["skipped"]:
            self._told = job.algorithm.told(before, self._public().clone())
        evaluates = self._evaluates()
        self.round += 1
        if evaluates:
            with clock("evaluate"):
                # exact figures take 10 ms each: too much in a run that wants hundreds of them
                many = job.rounds > 100 * job.evaluate_every and self.round < job.rounds
                row |= self.measured(rounded=many)
        row.update({f"seconds_{phase}": spent for phase, spent in clock.spent.items()})
        return row

    def measured(self, *, rounded: bool = False) -> Row:
        """Quality, success of a backdoor, and epsilon now; rounded, an upper bound of epsilon."""
        accuracy, loss = self._over_models(self.job.evaluate)
        row: Row = {"accuracy": accuracy, "loss": loss}
        if (success := self.job.attack_success) is not None:
            row["attack_success_rate"] = self.average(success)
        if self.job.ledger is not None:
            self.guarantee = self.job.ledger.guarantee(rounded=rounded)
            row["epsilon"] = self.guarantee.epsilon
        return row

    def average(self, measure: Callable[[Tensor], float]) -> float:
        """A figure of the model now, averaged over the honest clients where each has its own."""
        (figure,) = self._over_models(lambda theta: (measure(theta),))
        return figure

    def checkpoint(self) -> Checkpoint:
        """The state between two rounds, as views: save it before the next step."""
        tensors = {f"shared.{k}": v for k, v in self.shared.items()}
        tensors |= {f"memory.{k}": v for k, v in self.memory.items()}
        tensors |= {} if self._told is None else {"told": self._told}
        tensors |= {f"rule.{k}": v for k, v in self.rule_memory.items()}
        tensors |= {f"attacker.{k}": v for k, v in self.attacker.items()}
        tensors |= {f"root.{k}": v for k, v in self.root.items()}
        ledger = self.job.ledger
        streams = self.job.streams
        facts = {
            "seed": streams.seed,
            "noise_seed": streams.noise_seed,
            "ledger": None if ledger is None else ledger.state(),
        }
        held = {name: tensor.detach() for name, tensor in tensors.items()}
        return Checkpoint(self.round, held, facts)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint of the same job; call it before the first step.

        The ledger is not set back: it knows of releases that were made after the checkpoint.
        """
        self.round = checkpoint.round
        for prefix, state in (("shared.", self.shared), ("memory.", self.memory)):
            for name in list(state):
                state[name] = checkpoint.tensors[prefix + name].to(self.job.device, copy=True)
        if "told" in checkpoint.tensors:
            self._told = checkpoint.tensors["told"].to(self.job.device, copy=True)
        self.rule_memory = self._restored(checkpoint, "rule.")
        self.attacker = self._restored(checkpoint, "attacker.")
        self.root = self._restored(checkpoint, "root.")
        if self._counts.repeatable:  # else new epochs begin, and the rest of the old ones is lost
            for t in range(checkpoint.round):
                self._counts.take(t, self._attendance(t))

    def _attendance(self, round_: int) -> Attendance:
        return self.job.participation.draw(self.job.streams, round_, self.job.steps)

    def _restored(self, checkpoint: Checkpoint, prefix: str) -> Tensors:
        """The tensors under a prefix, however many there were."""
        return {
            name.removeprefix(prefix): tensor.to(self.job.device, copy=True)
            for name, tensor in checkpoint.tensors.items()
            if name.startswith(prefix)
        }

    def _evaluates(self) -> bool:
        """Whether this round ends with an evaluation."""
        done = self.round + 1
        return done % self.job.evaluate_every == 0 or done == self.job.rounds

    def _computing(self, attendance: Attendance) -> Cohort:
        """The part of the cohort that follows the protocol (poisoned data or not)."""
        job = self.job
        kept = [
            (client, steps)
            for client, steps in zip(attendance.ids, attendance.steps, strict=True)
            if computes(job, self.round, client)
        ]
        ids = tuple(client for client, _ in kept)
        shards = job.shards if job.attacked(self.round) else job.shards.honest
        before = self._counts.take(self.round, attendance)
        return Cohort(
            ids,
            ids,
            shards,
            job.streams,
            steps=tuple(steps for _, steps in kept),
            peers=attendance.drawn,
            absent=attendance.absent,
            taken=tuple(before[client] for client in ids),
        )

    def _held(self, cohort: Cohort) -> Tensors:
        """What the cohort remembers now, as far as a skipped round takes changes of it back."""
        rows = list(cohort.rows)
        kept = (name for name in self.job.algorithm.undone if name in self.memory)
        return {name: self.memory[name][rows] for name in kept}

    def _charge(self, cohort: Cohort) -> None:
        job = self.job
        if job.ledger is None:
            return
        cheats = set() if job.attack is None else set(job.byzantine)
        releases = job.algorithm.releases(cohort)
        job.ledger.charge(self.round, {c: r for c, r in releases.items() if c not in cheats})

    def _adapt(self, sent: Sent, computing: Cohort, delivered: Delivered, *, skipped: bool) -> int:
        """Move the clip by the senders' shares, where it moves; the bits that these took.

        A malicious client that forges its message claims that every gradient is longer than the
        clip: that would raise the clip, and the noise with it.
        """
        if sent.shares is None:
            return 0
        told = dict(zip(computing.ids, sent.shares.tolist(), strict=True))
        forging = isinstance(self.job.attack, MessageAttack) and self.job.attacked(self.round)
        liars = set(self.job.byzantine) if forging else set()
        shares = [0.0 if c in liars else told[c] for c in delivered.senders]
        if not skipped:
            self.shared = self.job.algorithm.adapt(self.shared, torch.tensor(shares))
        return SHARE_BITS * len(shares)

    def _compute(self, broadcast: Broadcast, cohort: Cohort) -> Sent:
        """The cohort's messages, those of some malicious clients by a client rule of their own."""
        attack, apart = self.job.attack, self._apart.intersection(cohort.ids)
        if not apart:
            return self._computed(broadcast, cohort)
        assert isinstance(attack, MessageAttack)
        followers = [i for i, client in enumerate(cohort.ids) if client not in apart]
        cheats = [i for i, client in enumerate(cohort.ids) if client in apart]
        sent = self._computed(broadcast, cohort.some(followers))
        executor = OneByOne if self.job.algorithm.one_by_one else WholeCohort
        theirs = executor(client_rule(attack, self.job.algorithm)).run(
            broadcast, self.memory, cohort.some(cheats)
        )
        order = sorted(range(len(cohort.ids)), key=[*followers, *cheats].__getitem__)
        if not followers:
            return replace(theirs, info={})
        shares = None
        if sent.shares is not None and theirs.shares is not None:
            shares = torch.cat([sent.shares, theirs.shares])[order]
        return Sent(torch.cat([sent.messages, theirs.messages])[order], sent.info, shares)

    @property
    def _apart(self) -> frozenset[int]:
        """Malicious clients whose client rule is not that of the others in this round."""
        attack = self.job.attack
        if not isinstance(attack, MessageAttack) or not self.job.attacked(self.round):
            return frozenset()
        changes = attack.omits_noise or attack.near is not None
        return frozenset(self.job.byzantine) if changes else frozenset()

    def _noise(self, broadcast: Broadcast, cohort: Cohort) -> tuple[float | None, ...]:
        """Standard deviation of the noise in the honest messages, where somebody forges others."""
        job = self.job
        if not isinstance(job.attack, MessageAttack) or not job.attacked(self.round):
            return ()
        honest = [i for i, client in enumerate(cohort.ids) if client not in job.byzantine]
        if not honest:
            return ()
        return job.algorithm.noise_std(broadcast, self.memory, cohort.some(honest))

    def _computed(self, broadcast: Broadcast, cohort: Cohort) -> Sent:
        if not cohort.ids:
            return Sent(torch.empty(0, 0, device=self.job.device))
        if self._executor is None:
            self._executor = self._start(broadcast)
        return self._executor.run(broadcast, self.memory, cohort)

    def _start(self, broadcast: Broadcast) -> Executor:
        job = self.job
        if not job.algorithm.one_by_one or job.device.type != "cpu":
            return WholeCohort(job.algorithm)
        if not job.workers:
            return OneByOne(job.algorithm)
        return Workers(
            job.algorithm,
            job.shards,
            job.streams,
            self.memory,
            broadcast,
            cohort=job.participation.size,
            processes=min(job.workers, job.participation.size),
            in_place=job.own_records,
        )

    def _job_of_round(self, broadcast: Broadcast, clock: Clock) -> Job:
        """The job with the rule's draws and memory of this round, and the trusted update.

        A centre means nothing in another subspace, so a rule forgets it when the map changes.
        """
        seed = int(self.job.streams.public(RULE, self.round).integers(2**63))
        previous = None if broadcast.previous is not None else self.rule_memory.get("previous")
        rule = self.job.rule.for_round(seed, previous)
        if self.job.reference is not None:
            with clock("server"):
                rule = rule.trusting(self.job.reference(broadcast, self.root))
        return replace(self.job, rule=rule)

    def _exchange(self, job: Job, broadcast: Broadcast, delivered: Delivered, clock: Clock) -> Row:
        senders = delivered.senders
        cheats = set() if job.attack is None else set(job.byzantine)
        honest = {c for c in senders if c not in cheats}
        row: Row = {"senders": len(senders), "skipped": False}
        if not honest or not job.outvotes(len(senders)):
            return self._skip(broadcast, row)  # fail closed: too few messages to outvote f
        recorder = Recorder(job, senders, honest, clock, evaluated=self._evaluates())
        try:
            self.shared = job.algorithm.exchange(
                self.shared, broadcast, delivered.stack, senders, recorder
            )
        except TooManyFaultyClients:
            return self._skip(broadcast, row)
        # one aggregate a round, or there would be as many memories as neighbourhoods and halves
        if job.rule.remembers and isinstance(job.algorithm, Central) and job.algorithm.halves == 1:
            self.rule_memory = {"previous": recorder.vector.clone()}
        return row | recorder.row

    def _skip(self, broadcast: Broadcast, row: Row) -> Row:
        """Leave the model as it is."""
        self.shared = self.job.algorithm.skip(self.shared, broadcast)
        return row | {"skipped": True}

    def _public(self) -> Tensor:
        """The parameters (d,) that everybody sees move: the mean of the nodes' without a server."""
        return self.theta if self.theta.ndim == 1 else self.theta.mean(dim=0)

    def _over_models(self, measure: Callable[[Tensor], tuple[float, ...]]) -> tuple[float, ...]:
        """Figures of the model, averaged over the honest clients where each has its own."""
        theta = self.theta
        if theta.ndim == 1:
            return measure(theta)
        honest = [i for i in range(len(theta)) if i not in self.job.byzantine]
        measured = [measure(theta[i]) for i in honest]
        return tuple(sum(figures) / len(honest) for figures in zip(*measured, strict=True))
