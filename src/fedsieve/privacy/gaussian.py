"""Noise on the sum of clipped vectors.

Abadi, Chu, Goodfellow, McMahan, Mironov, Talwar, Zhang, "Deep Learning with Differential Privacy",
CCS 2016; here after a shared public projection A to k numbers:

    y_i = ( sum_{x in S_i} h_x + sigma C Z_i ) / b,    ||h_x|| <= C,    Z_i ~ N(0, I_k),

with S_i a Poisson sample of client i's records and b the *public* expected size of a batch.
Dividing by the realised size would release it; a client whose batch is empty sends pure noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

import numpy as np

from fedsieve.privacy.guarantee import Event, Unit

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class GaussianMechanism:
    """Gaussian noise on clipped sums, divided by the public expected batch size.

    The noise is drawn in float64 and added before rounding to the sums' type. This hides a record
    from whoever reads real numbers; it is not a defence against attacks on floating-point rounding.

    Args:
        clip: Norm C that no summed vector exceeds, > 0.
        noise_multiplier: sigma, noise standard deviation over the clip, > 0.
        batch: Public expected number of records (or clients) in a sum, > 0; need not be whole.
        unit: What one summed vector belongs to.

    Raises:
        ValueError: An argument outside these ranges.

    Example:
        >>> import torch
        >>> mechanism = GaussianMechanism(clip=1.0, noise_multiplier=2.0, batch=16)
        >>> mechanism.privatize(torch.zeros(1, 3), [np.random.default_rng(0)])
        tensor([[ 0.0157, -0.0165,  0.0801]])
    """

    clip: float
    noise_multiplier: float
    batch: float
    unit: Unit = "record"

    def __post_init__(self) -> None:
        for name in ("clip", "noise_multiplier", "batch"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                hint = "; without noise nothing is private: leave the mechanism out"
                hint = hint if name == "noise_multiplier" and value == 0 else ""
                raise ValueError(f"{name}={value} must be finite and > 0{hint}")
        if self.unit not in get_args(Unit):
            raise ValueError(f"unit={self.unit!r} is not one of {', '.join(get_args(Unit))}")

    @property
    def noise_std(self) -> float:
        """Standard deviation of the noise on each number of a message."""
        return self.noise_multiplier * self.clip / self.batch

    def event(self, sampling_rate: float, steps: int = 1) -> Event:
        """The privacy event of so many releases at this sampling rate."""
        return Event(self.noise_multiplier, sampling_rate, steps)

    def privatize(self, sums: Tensor, generators: Sequence[np.random.Generator]) -> Tensor:
        """Turn the clipped sums (n, k) of n clients into their messages (n, k).

        Args:
            sums: Row i is the sum of client i's clipped vectors; zero for an empty batch.
            generators: One per row, each client's own noise stream.

        Raises:
            ValueError: Not one generator per row, or a sum that is not finite: it cannot be a sum
                of clipped vectors, and noise would not hide it.
        """
        import torch  # not above: the accounting commands start without it

        if sums.ndim != 2 or len(generators) != len(sums):
            raise ValueError(
                f"sums has shape {tuple(sums.shape)} and there are {len(generators)} generators; "
                "needed are shape (n, k) and n generators"
            )
        if len({id(generator) for generator in generators}) != len(generators):
            raise ValueError("two clients share one noise generator; each needs its own")
        finite = torch.isfinite(sums).all(dim=1)
        if not bool(finite.all()):
            raise ValueError(
                f"sum of row {int(torch.nonzero(~finite)[0])} is not finite: clip every vector, "
                "counting one that is not finite as zero, before summing"
            )
        noise = np.empty(tuple(sums.shape))
        for row, generator in zip(noise, generators, strict=True):
            generator.standard_normal(out=row)
        noisy = torch.from_numpy(noise).to(sums.device).mul_(self.noise_multiplier * self.clip)
        return noisy.add_(sums).div_(self.batch).to(sums.dtype)
