"""Eleven broken libraries, and an audit that finds every one of them and acquits the real one.

Each mutant replaces one function of fedsieve on the way that a run takes; everything else is what a
user runs. The attacks and the bound are those of `conftest`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fedsieve.algorithms.parts import Planner
from fedsieve.algorithms.trust import OwnNoise
from fedsieve.compression.projections import LayeredSubspace, LowRank
from fedsieve.learning.clipping import Clip
from fedsieve.learning.gradients import ClippedSums, PerSampleGradients
from fedsieve.learning.layout import InputBasis, Layout
from fedsieve.privacy import GaussianMechanism, Released
from fedsieve.randomness import Streams
from fedsieve.simulation.job import Job
from fedsieve.simulation.loop import Simulation
from tests.mutants.trials import Patch

CANARY_ALONE, NOTHING = (0, *range(2, 9)), (1, *range(2, 9))
"""Places of a client's records; the others than the canary are empty where the court says so."""


# ------------------------------------------------------------------------------------- attacks


def along_the_canary(messages: Tensor) -> Tensor:
    """Where the canary's gradient points to, summed over the rounds."""
    return messages[..., 0].sum(dim=0)


def beside_a_colluder(messages: Tensor) -> Tensor:
    """Less the message of a client who holds no canary, and colludes: nothing but its noise."""
    there, gone = messages[..., 0].sum(dim=0).chunk(2)
    own, colluding = gone.chunk(2)
    half = len(own)
    return torch.cat([there[:half] - colluding, own - colluding])


def between_rounds(messages: Tensor) -> Tensor:
    """How much the rounds differ."""
    return (messages[0, :, 0] - messages[1, :, 0]).abs()


def whether_its_number_came(messages: Tensor) -> Tensor:
    """Whether any message held the canary's number."""
    return (messages[..., 0] != 0).any(dim=0).double()


def with_the_seed(messages: Tensor) -> Tensor:
    """Less the noise that the experiment's seed, 0, would give."""
    rounds, clients, k = messages.shape
    known = Streams(0, noise_seed=0)
    noise = [
        [known.noise(c, t, 0).standard_normal(k)[0] for c in range(clients)] for t in range(rounds)
    ]
    return along_the_canary(messages) - torch.tensor(noise).sum(dim=0)


# ------------------------------------------------------------------------------------- mutants


def noise_std_halved(patch: Patch) -> None:
    release = GaussianMechanism.release

    def half(self: GaussianMechanism, sums: Tensor, generators: Any) -> Released:
        return release(replace(self, noise_multiplier=self.noise_multiplier / 2), sums, generators)

    patch.setattr(GaussianMechanism, "release", half)


def clip_forgotten(patch: Patch) -> None:
    patch.setattr(Clip, "factors", lambda self, norms: torch.ones_like(norms))


def sums_by(patch: Patch, changed: Callable[..., Tensor]) -> None:
    """Replace the clipped sums; ``changed`` gets the engine's own and a way to ask for others."""
    clipped_sums = PerSampleGradients.clipped_sums

    def replaced(
        self: PerSampleGradients, theta: Tensor, x: Tensor, y: Tensor, counts: Any, **given: Any
    ) -> ClippedSums:
        found = clipped_sums(self, theta, x, y, counts, **given)

        def other(**changes: Any) -> Tensor:
            return clipped_sums(self, theta, x, y, counts, **(given | changes)).sums

        return replace(found, sums=changed(found, counts, given, other))

    patch.setattr(PerSampleGradients, "clipped_sums", replaced)


def clip_before_the_projection(patch: Patch) -> None:
    def sums(found: ClippedSums, counts: Any, given: Any, other: Callable[..., Tensor]) -> Tensor:
        return given["subspace"].project(other(subspace=None))

    sums_by(patch, sums)


def clip_of_the_batch(patch: Patch) -> None:
    """One unclipped record turns the clipped sum of the others around: it moves it by 2 C."""

    def sums(found: ClippedSums, counts: Any, given: Any, other: Callable[..., Tensor]) -> Tensor:
        raw = other(clip=None)
        return raw * (given["clip"].norm / raw.norm(dim=1, keepdim=True)).clamp(max=1)

    sums_by(patch, sums)


def realised_batch_size(patch: Patch) -> None:
    """The mean over the records that were drawn, in place of the sum over b."""

    def sums(found: ClippedSums, counts: Any, given: Any, other: Callable[..., Tensor]) -> Tensor:
        size = torch.stack([(own > 0).sum() for own in found.norms.split(list(counts))])
        return found.sums * 4.0 / size.clamp(min=1)[:, None]

    sums_by(patch, sums)


def noise_shared_by_clients(patch: Patch) -> None:
    patch.setattr("fedsieve.privacy.gaussian.refuse_twins", lambda own: None)  # it would notice
    noise = Streams.noise
    patch.setattr(Streams, "noise", lambda self, client, *labels: noise(self, 0, *labels))


def noise_reused_over_rounds(patch: Patch) -> None:
    noise = Streams.noise
    patch.setattr(Streams, "noise", lambda self, client, *labels: noise(self, client))


def support_of_raw_data(patch: Patch) -> None:
    """Only the largest numbers of the sum are noised and sent."""
    at_client = OwnNoise.at_client

    def sparse(self: OwnNoise, mechanism: Any, vectors: Tensor, *where: Any) -> Released:
        released = at_client(self, mechanism, vectors, *where)
        least = vectors.abs().topk(4, dim=1).values[:, -1:].clamp(min=1e-9)
        return replace(released, messages=released.messages * (vectors.abs() >= least))

    patch.setattr(OwnNoise, "at_client", sparse)


def error_feedback_on_raw_state(patch: Patch) -> None:
    """What the clip cut off is kept, and added to the next sum."""
    kept: list[Tensor] = []

    def sums(found: ClippedSums, counts: Any, given: Any, other: Callable[..., Tensor]) -> Tensor:
        kept.append(other(clip=None) - found.sums)
        return found.sums + (kept[-2] if len(kept) > 1 else 0)

    sums_by(patch, sums)


def seed_known(patch: Patch) -> None:
    """Noise from the experiment's seed, which is public."""

    def secret(self: Streams, stream: Any, labels: tuple[int, ...]) -> np.random.Generator:
        key = np.random.SeedSequence(self.seed, spawn_key=(int(stream), *labels))
        return np.random.default_rng(key)

    patch.setattr(Streams, "_secret", secret)


@dataclass(frozen=True)
class Stretch:
    """A public map of norm 4, as an unscaled sketch has: the canary's number counts fourfold."""

    refresh: int = 0

    def plan(self, layout: Layout, round: int, seed: int, history: Any) -> LayeredSubspace:  # noqa: A002
        basis = torch.eye(layout.d)
        basis[0, 0] = 4.0
        return LayeredSubspace(layout, (InputBasis(basis),))


@dataclass(frozen=True)
class Mutant:
    """A mutant, the attack that finds it, and the run in which it shows."""

    mutate: Callable[[Patch], None]
    attack: Callable[[Tensor], Tensor] = along_the_canary
    others: str = "orthogonal"
    projection: Any = None
    algorithm: str = "dshb"

    def scores(self, court: Any) -> tuple[Job, Tensor]:
        job = court.job(
            data=court.records(self.others), projection=self.projection, algorithm=self.algorithm
        )
        return job, self.attack(court.messages(job))


MUTANTS = [
    Mutant(noise_std_halved),
    Mutant(clip_forgotten),
    Mutant(clip_before_the_projection, projection=Stretch(), algorithm="sieve"),
    Mutant(clip_of_the_batch, others="opposed"),
    Mutant(realised_batch_size, others="none"),
    Mutant(noise_shared_by_clients, beside_a_colluder),
    Mutant(noise_reused_over_rounds, between_rounds),
    Mutant(support_of_raw_data, whether_its_number_came, others="none"),
    Mutant(error_feedback_on_raw_state),
    Mutant(seed_known, with_the_seed),
]


def halved(court: Any, attack: Callable[[Tensor], Tensor]) -> Any:
    """The court of an attack that needs half of the clients for other ends."""
    if attack is beside_a_colluder:
        return replace(court, choosing=court.choosing // 2, deciding=court.deciding // 2)
    return court


@pytest.mark.parametrize("case", MUTANTS, ids=lambda case: case.mutate.__name__)
def test_every_broken_library_is_found(court: Any, case: Mutant, monkeypatch: Patch) -> None:
    case.mutate(monkeypatch)
    job, scores = case.scores(court)
    found = halved(court, case.attack).bound(scores)
    claim = court.claim(job)
    print(f"{found:.3f} of {claim:.3f}")
    assert found > claim


DIFFERENT = {(case.attack, case.others == "opposed", case.algorithm): case for case in MUTANTS}
"""Runs and attacks that differ without the fault: numbers orthogonal to the canary are nothing."""


@pytest.mark.parametrize(
    "case",
    DIFFERENT.values(),
    ids=lambda case: f"{case.attack.__name__}, {case.algorithm}, others {case.others}",
)
def test_the_library_is_acquitted_of_all_of_them(court: Any, case: Mutant) -> None:
    job, scores = case.scores(court)
    found = halved(court, case.attack).bound(scores)
    claim = court.claim(job)
    print(f"{found:.3f} of {claim:.3f}")
    assert found < claim


# ------------------------------------------------- a plan that looks at raw gradients: run by run


def basis_of_raw_gradients(patch: Patch, job: Job) -> None:
    """The planner learns from the client's raw gradient, in place of the released aggregate."""
    learn, gradients = Planner.learn, job.algorithm.parts.gradient.gradients  # type: ignore[attr-defined]
    (part,), data = job.shards.parts, job.shards.dataset

    def raw(self: Planner, shared: Any, round_: int, lifted: Tensor) -> Any:
        return learn(
            self, shared, round_, gradients.mean(shared["theta"], data.x[part], data.y[part])
        )

    patch.setattr(Planner, "learn", raw)


def planned(court: Any, part: tuple[int, ...], patch: Patch | None) -> tuple[Job, list[float]]:
    """How much the first direction that round 0 has taught has of the canary's, run by run."""
    projection = LowRank(k=2, refresh=1)
    job = court.job([part], algorithm="sieve", projection=projection, data=court.records("none"))
    if patch is not None:
        basis_of_raw_gradients(patch, job)
    scores = []
    for trial in range(court.trials):
        streams = Streams(0, noise_seed=2 * trial + part[0])
        with Simulation(replace(job, streams=streams)) as simulation:
            simulation.step()
            (shown,) = job.algorithm.broadcast(simulation.shared, 1).subspace.maps or ()
        assert isinstance(shown, InputBasis)
        scores.append(abs(float(shown.basis[0, 0])))
    return job, scores


@pytest.mark.parametrize("broken", [True, False], ids=["broken", "real"])
def test_a_basis_of_raw_gradients_is_found(
    small_court: Any, broken: bool, monkeypatch: Patch
) -> None:
    scores = []
    for part in (CANARY_ALONE, NOTHING):
        with monkeypatch.context() as patch:
            job, own = planned(small_court, part, patch if broken else None)
            scores += own
    found, claim = small_court.bound(scores), small_court.claim(job, 1)
    print(f"{found:.3f} of {claim:.3f}")
    assert (found > claim) is broken
