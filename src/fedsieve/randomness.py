"""The four named random streams of a run; no function anywhere touches a global seed.

Every draw comes from ``numpy.random.default_rng([seed, stream, *labels])``, keyed by what it is for
(round, client, step), never by the order in which it is asked for. Serial and parallel runs
therefore draw the same numbers, and a resumed run needs no stored generator state.

The privacy stream is different: unless a simulation asks for a noise seed, each draw is keyed by
256 fresh bits of the operating system, and cannot be repeated by anybody.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What the randomness is for; the number is part of the key."""

    PUBLIC = 0
    DATA = 1
    NOISE = 2
    ATTACKER = 3


@dataclass(frozen=True)
class Streams:
    """The random streams of one run.

    Args:
        seed: Experiment seed, an integer >= 0: public, data-order and attacker streams.
        noise_seed: Seed of the privacy noise in a simulation; ``None`` (the only setting for a
            deployment) draws it from the operating system's entropy.

    Example:
        >>> Streams(seed=7).data(0, 3).integers(100) == Streams(seed=7).data(0, 3).integers(100)
        np.True_
    """

    seed: int
    noise_seed: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("seed", self.seed), ("noise_seed", self.noise_seed)):
            if value is not None and value < 0:
                raise ValueError(f"{name}={value} must be >= 0")

    @property
    def noise_source(self) -> str:
        """Where the privacy noise comes from, as it is printed in every summary."""
        if self.noise_seed is None:
            return "operating system entropy"
        return f"simulation seed {self.noise_seed}"

    def public(self, *labels: int) -> np.random.Generator:
        """Stream of what everybody may know: initial models, projections, cohorts."""
        return _keyed(self.seed, Stream.PUBLIC, labels)

    def data(self, *labels: int) -> np.random.Generator:
        """Stream of the order in which a client visits its records; secret from the server."""
        return _keyed(self.seed, Stream.DATA, labels)

    def attacker(self, *labels: int) -> np.random.Generator:
        """Stream of what malicious clients draw."""
        return _keyed(self.seed, Stream.ATTACKER, labels)

    def noise(self, *labels: int) -> np.random.Generator:
        """Stream of privacy noise: fresh entropy, or keyed by the simulation's noise seed."""
        if self.noise_seed is None:
            return np.random.default_rng(secrets.randbits(256))
        return _keyed(self.noise_seed, Stream.NOISE, labels)


def _keyed(seed: int, stream: Stream, labels: tuple[int, ...]) -> np.random.Generator:
    return np.random.default_rng([seed, int(stream), *labels])
