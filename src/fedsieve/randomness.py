"""The seven named random streams of a run; no function anywhere touches a global seed.

Every draw comes from ``default_rng(SeedSequence(seed, spawn_key=(stream, *labels)))``, keyed by
what it is for (round, client, step), never by the order in which it is asked for. Serial and
parallel runs therefore draw the same numbers, and a resumed run needs no stored generator state.
The seed fills four words of the key and every label one, so no two keys are spelled alike.

The four streams that the privacy statement rests on are different. Unless a simulation asks for a
noise seed, they are key streams of a cipher (`fedsieve._keystream`), and PCG64 is not used: each
draw of noise and each Poisson batch is keyed by 256 fresh bits of the operating system, and cannot
be repeated or foretold by anybody. Noise that two clients share has to be drawn by both, and the
order of an epoch by all its steps: their keys are derived from a secret of 256 such bits (for the
pairs in place of the secrets that deployed clients agree on two by two). None of these keys is ever
written down.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import IntEnum

import numpy as np

from fedsieve._keystream import FreshGenerator, Secret, cipher


class Stream(IntEnum):
    """What the randomness is for; the number is part of the key."""

    PUBLIC = 0
    DATA = 1
    NOISE = 2
    ATTACKER = 3
    INCLUSION = 4
    PAIR = 5
    ORDER = 6


_SEEDS, _LABELS = 2**128, 2**32  # a seed fills four words of 32 bits, a label one


@dataclass(frozen=True)
class Streams:
    """The random streams of one run.

    Args:
        seed: Experiment seed, an integer in [0, 2^128): public, data-order and attacker streams.
        noise_seed: Seed of the privacy noise and the Poisson batches in a simulation, in the same
            range; ``None`` (the only setting for a deployment) keys both with the operating
            system's entropy.
        pair_secret: What keys the noise that clients share, and the order of epochs, where there is
            no noise seed; drawn from the operating system, never written down. See `renewed`.

    Raises:
        ValueError: A seed out of range, or (when a stream is asked for) a label outside [0, 2^32).

    Example:
        >>> Streams(seed=7).data(0, 3).integers(100) == Streams(seed=7).data(0, 3).integers(100)
        np.True_
    """

    seed: int
    noise_seed: int | None = None
    pair_secret: Secret = field(default_factory=Secret, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, value in (("seed", self.seed), ("noise_seed", self.noise_seed)):
            if value is not None and not 0 <= value < _SEEDS:
                raise ValueError(f"{name}={value} must be >= 0 and < 2^128")

    @property
    def noise_source(self) -> str:
        """Where noise and Poisson batches come from, as it is printed in every summary."""
        if self.noise_seed is None:
            return f"operating system entropy, expanded by {cipher()}"
        return f"simulation seed {self.noise_seed}"

    def renewed(self) -> Streams:
        """The same streams with another secret of pairs and epochs.

        Rounds that are run a second time must not share the noise of the first: two messages under
        the same noise give their difference away. Nor may an epoch that is paid for once be
        visited twice. Everything else either is meant to repeat, or never does.
        """
        return replace(self, pair_secret=Secret())

    def public(self, *labels: int) -> np.random.Generator:
        """Stream of what everybody may know: initial models, projections, cohorts."""
        return _keyed(self.seed, Stream.PUBLIC, labels)

    def data(self, *labels: int) -> np.random.Generator:
        """Stream of the order in which a client without privacy visits its records."""
        return _keyed(self.seed, Stream.DATA, labels)

    def attacker(self, *labels: int) -> np.random.Generator:
        """Stream of what malicious clients draw."""
        return _keyed(self.seed, Stream.ATTACKER, labels)

    def noise(self, *labels: int) -> np.random.Generator:
        """Stream of privacy noise: fresh entropy, or keyed by the simulation's noise seed."""
        return self._secret(Stream.NOISE, labels)

    def inclusion(self, *labels: int) -> np.random.Generator:
        """Stream of who joins a Poisson batch: as secret as the noise, and drawn like it.

        Whoever knows the draws sees no amplification by sampling: epsilon is that of q = 1 in the
        steps that a record joined.
        """
        return self._secret(Stream.INCLUSION, labels)

    def order(self, *labels: int) -> np.random.Generator:
        """Stream of the step in which a record takes part in an epoch: as secret as `inclusion`.

        All steps of an epoch ask for the same draw, so without a noise seed it is keyed by the
        secret of the pairs, which lives as long as the `Streams`.
        """
        return self._derived(Stream.ORDER, labels)

    def pair(self, one: int, other: int, *labels: int) -> np.random.Generator:
        """Stream that two clients share and nobody else knows; the order of the two is nothing.

        Whoever asks with the same labels draws the same numbers, as often as it likes.
        """
        labels = (min(one, other), max(one, other), *labels)
        return self._derived(Stream.PAIR, labels)

    def _derived(self, stream: Stream, labels: tuple[int, ...]) -> np.random.Generator:
        """What is drawn alike whenever it is asked for, and by nobody without the secret."""
        if self.noise_seed is None:
            return self.pair_secret.generator(int(stream), *_checked(labels))
        return _keyed(self.noise_seed, stream, labels)

    def _secret(self, stream: Stream, labels: tuple[int, ...]) -> np.random.Generator:
        if self.noise_seed is None:
            _checked(labels)  # they key nothing, but what is wrong with a seed is wrong without
            return FreshGenerator()
        return _keyed(self.noise_seed, stream, labels)


def _checked(labels: tuple[int, ...]) -> tuple[int, ...]:
    if not all(0 <= label < _LABELS for label in labels):
        raise ValueError(f"labels={labels} must each be >= 0 and < 2^32")
    return labels


def _keyed(seed: int, stream: Stream, labels: tuple[int, ...]) -> np.random.Generator:
    _checked(labels)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(int(stream), *labels)))
