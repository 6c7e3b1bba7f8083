"""Integer noise on the clipped sums of a run: what leaves the mechanism are integers.

The mechanism of `fedsieve.privacy.gaussian` with every step after the summation in integers,

    y_i = round( sum_{x in S_i} h_x / gamma ) + Z_i,    message = (gamma / b) y_i,

with Z_i discrete Gaussian or Skellam noise of sigma times the `SumLattice`'s bound, drawn from its
exact law. gamma / b is a power of two and |y_i| < 2^24, so a float32 holds a message exactly, and
B bits a number on the wire do too (codec "integers"). An integer beyond the B bits is set to their
end: it says less than it was, so nothing wraps around and nothing is lost to privacy.

What is released is private exactly as sent: no rounding of floating point touches the noise, or
what the noise is added to. Before the noise, gradients are computed in float32 and added up in
float32 (up to 90 records) or float64: by at most `SLACK`, which the lattice allows for it, one
record may move their sum further than C (`learning._work`).

gamma is as fine as the sampler's tables allow (noise of up to 2^14 units); the noise is larger than
sigma C by the rounding's share sqrt(k) gamma / C, mostly less than a hundredth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, get_args

import numpy as np

from fedsieve.learning.clipping import Clipping, Split
from fedsieve.privacy.discrete import DiscreteGaussian, IntegerWire, Skellam, SumLattice
from fedsieve.privacy.discrete._laws import WIDEST
from fedsieve.privacy.gaussian import Released
from fedsieve.privacy.guarantee import LEAST_VARIANCE, Event, Law, Unit

if TYPE_CHECKING:
    from torch import Tensor

LARGEST_BATCH = 10_000
"""Expected vectors of a sum. Float32 may compute a gradient to another last bit beside other
gradients; if each of so many clipped ones did (2^-24 of the clip), all in one direction, the sum
would move by 6e-4 of the clip, less than the lattice allows."""

LEAST_CLIP = 2.0**-40
"""And its inverse the largest: every message is then a float32 number, none of them subnormal."""

LEAST_MULTIPLIER = 1 / WIDEST
"""Below it a clipped vector would span more integers than 32 bits hold."""

MOST_BITS = 25
"""Integers of so many bits, sign included, are float32 numbers."""

REACH = 2
"""Expected batches whose gradients may all point one way before an integer is cut off."""


@dataclass(frozen=True)
class IntegerMechanism:
    """Integer noise on clipped sums, divided by the public expected batch size.

    Args:
        clip: Norm C that no summed vector exceeds, in [2^-40, 2^40].
        noise_multiplier: sigma, noise standard deviation over the lattice's bound, in
            [2^-14, 2^14].
        batch: Public expected number of records in a sum, in [2^-40, 10^4].
        k: Numbers in a message, >= 1.
        law: "discrete-gaussian" or "skellam".
        unit: What one summed vector belongs to.
        clipping: How vectors were clipped to C; nothing here depends on it.
        split: How C was dealt to the layers; nothing here depends on it.

    Raises:
        ValueError: An argument outside these ranges, or noise that is too wide for its tables.

    Example:
        >>> import torch
        >>> mechanism = IntegerMechanism(clip=1.0, noise_multiplier=2.0, batch=16, k=3)
        >>> sent = mechanism.release(torch.zeros(1, 3), [np.random.default_rng(0)]).messages
        >>> sent / mechanism.step
        tensor([[  2874.,  -5032., -14270.]])
    """

    clip: float
    noise_multiplier: float
    batch: float
    k: int
    law: Law = "discrete-gaussian"
    unit: Unit = "record"
    clipping: Clipping = "flat"
    split: Split = "equal"

    def __post_init__(self) -> None:
        for name, least, most in (
            ("clip", LEAST_CLIP, 1 / LEAST_CLIP),
            ("noise_multiplier", LEAST_MULTIPLIER, WIDEST),
            ("batch", LEAST_CLIP, math.inf),
        ):
            value = getattr(self, name)
            if not (least <= value <= most and math.isfinite(value)):
                raise ValueError(f"{name}={value} must be in [{least:.4g}, {most:.4g}]")
        if self.batch > LARGEST_BATCH:
            raise ValueError(
                f"batch={self.batch} with integer noise: the last bits of so many float32 vectors "
                f"are more than the lattice allows for; allowed is {LARGEST_BATCH}, or Gaussian "
                "noise"
            )
        if self.law not in ("discrete-gaussian", "skellam"):
            raise ValueError(f"law={self.law!r} is not one of discrete-gaussian, skellam")
        for name, value, allowed in (
            ("unit", self.unit, get_args(Unit)),
            ("clipping", self.clipping, get_args(Clipping)),
            ("split", self.split, get_args(Split)),
        ):
            if value not in allowed:
                raise ValueError(f"{name}={value!r} is not one of {', '.join(allowed)}")
        if self.noise_multiplier * math.sqrt(self.k) > WIDEST / 2:
            most = (WIDEST / 2 / self.noise_multiplier) ** 2
            raise ValueError(
                f"noise_multiplier={self.noise_multiplier:.6g} on k={self.k} numbers is too much "
                f"for integer noise: rounding alone would take it beyond {WIDEST} units; allowed "
                f"is k <= {math.floor(most)}, or continuous noise (privacy.noise='gaussian')"
            )
        if self.law == "skellam" and self.noise.variance < LEAST_VARIANCE:
            finer = self.step * math.sqrt(self.noise.variance / LEAST_VARIANCE)
            raise ValueError(
                f"noise_multiplier={self.noise_multiplier:.6g} on k={self.k} numbers makes Skellam "
                f"noise of variance {float(self.noise.variance):.6g} in units of step={self.step}; "
                f"it is accounted for {LEAST_VARIANCE} or more, which takes step <= {finer:.3g}, "
                "or privacy.noise='discrete-gaussian', which has no such limit"
            )

    @cached_property
    def step(self) -> float:
        """Spacing gamma / b of the messages: the smallest power of two that tables allow."""
        # sigma l2 is at most the sum of these two terms
        room = WIDEST - self.noise_multiplier * math.sqrt(self.k)
        wanted = self.noise_multiplier * self.clip * 1.001 / self.batch / room
        return math.ldexp(1.0, math.ceil(math.log2(wanted)))

    @property
    def lattice(self) -> SumLattice:
        """Of the sums."""
        return SumLattice(self.clip, self.step * self.batch, self.k)

    @cached_property
    def noise(self) -> DiscreteGaussian | Skellam:
        """The noise on the integers."""
        made = Skellam if self.law == "skellam" else DiscreteGaussian
        return made(self.lattice, self.noise_multiplier)

    @property
    def noise_std(self) -> float:
        """Standard deviation of the noise on each number of a message."""
        return self.noise.noise_std * self.step

    @property
    def grid(self) -> float:
        """Spacing of the public grid on which messages lie, a power of two: `step`."""
        return self.step

    @property
    def bits(self) -> int:
        """Bits of an integer on the wire, sign included."""
        largest = REACH * self.clip / self.step
        return min(IntegerWire.holding(largest, self.noise.noise_std).bits, MOST_BITS)

    def event(self, sampling_rate: float, steps: int = 1) -> Event:
        """The privacy event of so many releases at this sampling rate."""
        variance = float(self.noise.variance) if self.law == "skellam" else None
        return Event(self.noise_multiplier, sampling_rate, steps, self.law, variance)

    def release(self, sums: Tensor, generators: Sequence[np.random.Generator]) -> Released:
        """The messages of n clients for their clipped sums, and how large noise and signal are.

        Args:
            sums: Row i (k numbers) is the sum of client i's clipped vectors; zero for an empty
                batch.
            generators: One per row, each client's own noise stream.

        Raises:
            ValueError: Another shape, not one generator per row, two the same or in the same state,
                or a sum that is not finite.
        """
        import torch  # not above: the accounting commands start without it

        signal = sums.detach().to("cpu", torch.float64).numpy()
        rounded = self.lattice.round(signal)
        noisy = self.noise.add_noise(rounded, generators)
        largest = (1 << (self.bits - 1)) - 1
        integers = torch.from_numpy(np.clip(noisy, -largest, largest))
        messages = (integers.double() * self.step).to(sums.device, sums.dtype)
        noise_norm, signal_norm = (
            float(np.linalg.norm(part, axis=1).mean()) * unit
            for part, unit in ((noisy - rounded, self.step), (signal, 1 / self.batch))
        )
        return Released(messages, noise_norm, signal_norm)
