"""What algorithms are composed of: a stochastic gradient in R^k, and the plan of the projection."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from fedsieve.algorithms.form import Broadcast, Cohort, Info, Releases, Sent, Tensors
from fedsieve.algorithms.trust import Mechanism, Noise, OwnNoise, clipped
from fedsieve.learning import sampling
from fedsieve.learning.clipping import Clip
from fedsieve.learning.data import Batch
from fedsieve.learning.gradients import PerSampleGradients
from fedsieve.learning.layout import Layout, Subspace
from fedsieve.learning.nearness import Nearness
from fedsieve.privacy import AdaptiveClip, IntegerMechanism, Released, Sampling, epochs

COUNTS = 1
"""Label of the noise on counts of gradients within the clip, in a client's noise stream."""


class Projection(Protocol):
    """A shared linear map by its recipe; see `fedsieve.compression.projections`."""

    @property
    def refresh(self) -> int:
        """Rounds between two plans; 0 keeps the first for the whole run."""
        ...

    def plan(self, layout: Layout, round: int, seed: int, history: Tensor | None) -> Subspace:  # noqa: A002 - the word of the form
        """The linear map for this round."""
        ...


@dataclass(frozen=True)
class StochasticGradient:
    """A client's gradient estimate as a k-vector, private where a mechanism is given.

    With a mechanism at record level: Poisson batch, per-sample gradients projected, then clipped,
    then summed, then noised, divided by the public expected batch size. Otherwise the mean over a
    mini-batch, which a mechanism at client level clips and noises as a whole, or the update that
    was made of many such (`whole`).

    Args:
        gradients: The per-sample gradient engine of the model.
        batch: Batch size b, the expected one under Poisson sampling.
        mechanism: Clip and noise, or ``None``.
        noise: Who adds the noise of the mechanism.
        adaptive: Moves the clip from round to round; the mechanism's noise multiplier is then that
            of gradients and counts together, and its clip the first.
        near: Keeps local steps near where they began; a single gradient is taken there, where it
            has nothing to add.
        way: How records come to the steps, where there is a mechanism at record level.

    Raises:
        ValueError: Integer noise, or a clip that moves, at client level or with noise that is not
            each client's own; or clipping per layer at client level.
    """

    gradients: PerSampleGradients
    batch: int
    mechanism: Mechanism | None = None
    noise: Noise = field(default_factory=OwnNoise)
    adaptive: AdaptiveClip | None = None
    near: Nearness | None = None
    way: Sampling = "poisson"

    def __post_init__(self) -> None:
        if (mechanism := self.mechanism) is None:
            return
        unit, trust = mechanism.unit, self.noise.trust
        if self.way != "poisson" and (unit != "record" or trust == "distributed"):
            raise ValueError(
                f"way={self.way!r} with unit={unit!r} and trust={trust!r}: an epoch of records is "
                "charged when it begins, by a noise multiplier that must not change with the "
                "cohort; allowed is unit='record' with trust='local' or 'central'"
            )
        integers = isinstance(mechanism, IntegerMechanism)
        if (self.adaptive is not None or integers) and (unit, trust) != ("record", "local"):
            what = "integer noise" if integers else "a clip that moves"
            raise ValueError(
                f"unit={unit!r} with trust={trust!r}: {what} is made for sums of records that each "
                "client noises itself; allowed is unit='record' with trust='local'"
            )
        if mechanism.clipping == "per-layer" and unit == "client":
            raise ValueError(
                "clipping='per-layer' with unit='client': a client's update is clipped as a whole; "
                "allowed are 'flat' and 'automatic'"
            )

    @property
    def per_record(self) -> bool:
        """Whether each record's gradient is clipped, and every estimate private by itself."""
        return self.mechanism is not None and self.mechanism.unit == "record"

    def draw(self, cohort: Cohort, round_: int, step: int = 0) -> Batch:
        """The records that the clients visit in this step."""
        shards, ids, streams = cohort.shards, cohort.ids, cohort.streams
        if self.per_record and self.way != "poisson":
            next_of_epoch = sampling.shuffled if self.way == "shuffled" else sampling.allocated
            at = [before + step for before in cohort.taken]
            return next_of_epoch(shards, ids, self.batch, streams, at)
        sample = sampling.poisson if self.per_record else sampling.minibatch
        return sample(shards, ids, self.batch, streams, round_, step)

    def __call__(
        self,
        theta: Tensor,
        batch: Batch,
        subspace: Subspace,
        cohort: Cohort,
        round_: int,
        step: int = 0,
    ) -> tuple[Tensor, Info]:
        """Gradient estimates (m, k) at ``theta``, (d,) or (m, d), and their diagnostics.

        Private at record level only.
        """
        sent = self._sent(self.mechanism, theta, batch, subspace, cohort, round_, step)
        return sent.messages, sent.info

    def _sent(
        self,
        mechanism: Mechanism | None,
        theta: Tensor,
        batch: Batch,
        subspace: Subspace,
        cohort: Cohort,
        round_: int,
        step: int = 0,
    ) -> Sent:
        if mechanism is None or not self.per_record:
            return Sent(self._plain(theta, batch, subspace))
        clip = Clip(mechanism.clip, mechanism.clipping, split=mechanism.split)
        result = self.gradients.clipped_sums(
            theta, batch.x, batch.y, batch.counts, clip=clip, subspace=subspace
        )
        released = self.noise.at_client(mechanism, result.sums, cohort, round_, step)
        released = replace(released, messages=released.messages.to(theta.dtype))
        info = _norms(released) | {"unusable": float(result.bad.sum()) / max(len(result.norms), 1)}
        if len(result.norms):
            info["clipped_fraction"] = float((result.factors < 1).float().mean())
        if self.adaptive is None:
            return Sent(released.messages, info)
        norms = [own.numpy() for own in result.norms.cpu().split(list(batch.counts))]
        # never the stream of the messages' noise: whoever knew one would know the other
        counted = [cohort.streams.noise(client, round_, step, COUNTS) for client in cohort.ids]
        shares = self.adaptive.shares(norms, mechanism.clip, mechanism.batch, counted)
        info["clip"] = mechanism.clip
        return Sent(released.messages, info, torch.from_numpy(shares.astype(np.float32)))

    def whole(self, updates: Tensor, cohort: Cohort, round_: int) -> tuple[Tensor, Info]:
        """The updates (m, k) as the clients send them: at client level clipped and noised."""
        if self.mechanism is None or self.per_record:
            return updates, {}
        clip = Clip(self.mechanism.clip, self.mechanism.clipping)  # never per layer: refused
        vectors, factors = clipped(updates, clip)
        released = self.noise.at_client(self.mechanism, vectors, cohort, round_)
        info = {
            "unusable": float((~updates.isfinite().all(dim=1)).float().mean()),
            "clipped_fraction": float((factors < 1).float().mean()),
        }
        return released.messages, info | _norms(released)

    def _plain(self, theta: Tensor, batch: Batch, subspace: Subspace) -> Tensor:
        if theta.ndim == 2 and theta.device.type != "cpu" and len(set(batch.counts)) == 1:
            return subspace.project(self.gradients.means(theta, batch.x, batch.y))
        result = self.gradients.clipped_sums(
            theta, batch.x, batch.y, batch.counts, clip=None, subspace=subspace
        )
        counts = torch.tensor(batch.counts, device=theta.device).clamp(min=1)
        return result.sums / counts[:, None]

    def start(self, theta: Tensor) -> Tensors:
        """The first clip, where it moves."""
        if self.adaptive is None or self.mechanism is None:
            return {}
        clip = torch.tensor([self.mechanism.clip], dtype=torch.float64, device=theta.device)
        return {"clip": clip}

    def adapted(self, shared: Tensors, shares: Tensor) -> Tensors:
        """The clip of the next round."""
        if self.adaptive is None:
            return {}
        clip = self.adaptive.next_clip(float(shared["clip"]), float(shares.double().quantile(0.5)))
        return {"clip": torch.full_like(shared["clip"], clip)}

    def in_force(self, broadcast: Broadcast) -> Mechanism | None:
        """The mechanism of this round: where the clip moves, with the clip that was broadcast."""
        if self.adaptive is None or self.mechanism is None:
            return self.mechanism
        sigma = self.adaptive.gradient_multiplier(self.mechanism.noise_multiplier)
        clip = float(broadcast.tensors["clip"])
        return replace(self.mechanism, clip=clip, noise_multiplier=sigma)

    def noise_std(self, broadcast: Broadcast, cohort: Cohort) -> float | None:
        """Standard deviation of the noise on each number of one release; ``None`` without."""
        mechanism = self.in_force(broadcast)
        return None if mechanism is None else self.noise.std(mechanism, cohort)

    def once(self, broadcast: Broadcast, cohort: Cohort) -> Sent:
        """One message per client (m, k), its estimate at the broadcast theta_t (d,)."""
        theta, round_ = broadcast.tensors["theta"], broadcast.round
        start = time.perf_counter()
        batch = self.draw(cohort, round_)
        sampling_time = time.perf_counter() - start
        mechanism = self.in_force(broadcast)
        sent = self._sent(mechanism, theta, batch, broadcast.subspace, cohort, round_)
        messages, protected = self.whole(sent.messages, cohort, round_)
        info = sent.info | protected | {"seconds_sample": sampling_time}
        return replace(sent, messages=messages, info=info)

    def releases(self, cohort: Cohort, *, local: bool) -> Releases:
        """Per client (sampling rate, noise multiplier, steps) of one round.

        At client level a participation is one release, and no sampling amplifies it. Where records
        take part once in an epoch, the last number is that of epochs which begin in this round: an
        epoch is paid for whole before its first message.

        Args:
            cohort: The clients.
            local: Whether each takes its local steps, or one gradient at the shared parameters.
        """
        if self.mechanism is None:
            return {}
        sigma, b = self.noise.multiplier(self.mechanism, cohort), self.mechanism.batch
        if not self.per_record:
            return dict.fromkeys(cohort.ids, (1.0, sigma, 1))
        found: Releases = {}
        for client, before, managed in zip(cohort.ids, cohort.taken, cohort.steps, strict=True):
            n, steps = cohort.shards.size(client), managed if local else 1
            if self.way == "poisson":
                found[client] = b / n, sigma, steps
            else:
                t = sampling.epoch_steps(n, self.batch)
                found[client] = 1 / t, sigma, epochs(before + steps, t) - epochs(before, t)
        return found


def _norms(released: Released) -> Info:
    return {"noise_norm": released.noise_norm, "signal_norm": released.signal_norm}


@dataclass(frozen=True)
class Planner:
    """Plans the run's projection round by round, from public facts only.

    A projection that learns its basis sees ``history``, the exponential average of the released and
    lifted aggregates, as it stood when the plan was due; that snapshot is part of the shared state,
    so a resumed run plans the same basis.

    Args:
        projection: The recipe.
        layout: The model's table of parameters.
        seed: Public seed of the run's projections.
        device: Where the plans' tensors are to live.
        memory: Decay of the history, in [0, 1).
    """

    projection: Projection
    layout: Layout
    seed: int
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    memory: float = 0.9
    _plans: dict[int, tuple[Tensor | None, Subspace]] = field(
        default_factory=dict, compare=False, repr=False
    )

    @property
    def learns(self) -> bool:
        """Whether the plan depends on the history."""
        return bool(getattr(self.projection, "learns", False))

    @property
    def first(self) -> Subspace:
        """The plan of round 0."""
        return self._plan(0, None)

    def start(self, theta: Tensor) -> Tensors:
        """The planner's share of the shared state."""
        if not self.learns:
            return {}
        zero = torch.zeros_like(theta)
        return {"history": zero, "planned": zero.clone(), "replanned": zero.clone()}

    def subspaces(self, shared: Tensors, round_: int) -> tuple[Subspace, Subspace | None]:
        """The plan of this round, and the one before if this round changes it."""
        refresh = self.projection.refresh
        block = round_ // refresh if refresh else 0
        now = self._plan(block, shared.get("replanned"))
        if block == 0 or round_ % refresh:
            return now, None
        return now, self._plan(block - 1, shared.get("planned"))

    def learn(self, shared: Tensors, round_: int, lifted: Tensor | None) -> Tensors:
        """The planner's state after a round: its released aggregate (d,), if one came out of it."""
        if not self.learns:
            return {}
        history = shared["history"]
        if lifted is not None:
            history = self.memory * history + (1 - self.memory) * lifted
        due = self.projection.refresh and (round_ + 1) % self.projection.refresh == 0
        planned = shared["replanned"] if due else shared["planned"]
        return {
            "history": history,
            "planned": planned,
            "replanned": history.clone() if due else shared["replanned"],
        }

    def _plan(self, block: int, history: Tensor | None) -> Subspace:
        known = None if history is None or block == 0 else history
        if block in self._plans:
            seen, plan = self._plans[block]
            if known is seen or (known is not None and seen is not None and known.equal(seen)):
                return plan
        for old in [held for held in self._plans if held < block - 1]:
            del self._plans[old]
        round_ = block * max(self.projection.refresh, 1)
        plan = self.projection.plan(self.layout, round_, self.seed, known).to(self.device)
        self._plans[block] = known, plan
        return plan

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_plans": {}}


@dataclass(frozen=True)
class Parts:
    """Everything that an algorithm may be composed of.

    Args:
        gradient: The clients' stochastic gradient.
        planner: The projection's plan.
        n: Number of clients in the federation.
        everybody: Whether every client takes part in every round; then the k numbers of the
            released aggregate tell each client the new model, and nothing else has to come down.
    """

    gradient: StochasticGradient
    planner: Planner
    n: int
    everybody: bool = True

    @property
    def k(self) -> int:
        """Numbers in one k-vector."""
        return self.planner.first.k

    def broadcast(self, shared: Tensors, round_: int, names: Sequence[str]) -> Broadcast:
        """A broadcast of the named shared tensors with this round's plan."""
        subspace, previous = self.planner.subspaces(shared, round_)
        tensors = {name: shared[name] for name in names}
        known = self.everybody and round_ > 0
        sizes = (t.shape[-1] for t in tensors.values())
        numbers = sum(min(size, subspace.k) if known else size for size in sizes)
        return Broadcast(round_, tensors, subspace, previous, numbers)


def require_fixed(parts: Parts, algorithm: str) -> None:
    """Refuse a projection that changes during the run."""
    refresh = parts.planner.projection.refresh
    if refresh:
        raise ValueError(
            f"{algorithm} keeps k-vectors for the whole run, but projection.refresh={refresh} "
            "changes their meaning; use refresh=0"
        )
