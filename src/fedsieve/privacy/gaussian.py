"""Noise on the sum of clipped vectors.

Abadi, Chu, Goodfellow, McMahan, Mironov, Talwar, Zhang, "Deep Learning with Differential Privacy",
CCS 2016; here after a shared public projection A to k numbers:

    y_i = ( sum_{x in S_i} h_x + sigma C Z_i ) / b,    ||h_x|| <= C,    Z_i ~ N(0, I_k),

with S_i a Poisson sample of client i's records and b the *public* expected size of a batch.
Dividing by the realised size would release it; a client whose batch is empty sends pure noise.

The noise is drawn and added in float64, and what is released is the nearest multiple of a public
power of two, 2^-20 of the noise's standard deviation s = sigma C / b or a little less. The grid
hides the low bits of the floating-point sum, which could tell apart sums that noise of real numbers
would not (Mironov, "On Significance of the Least Significant Bits", CCS 2012), and it changes a
message by less than 10^-6 s. Three things it does not do: the law of the noise is as the float64
sampler has it, not proven Gaussian in the far tails; the summation before the noise rounds, which
may move a sum by 2^-10 C more than C, which is not charged (`learning._work` has the argument and
its limits; 10^4 to 10^6 records were measured to stay below C); and the time that sampling takes
tells of the noise. Noise that is private exactly as sent is that of `fedsieve.privacy.discrete`.
What the generators have to be (unpredictable, unless it is a simulation) is the caller's to see to:
`fedsieve.randomness`.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

import numpy as np

from fedsieve.learning.clipping import Clipping, Split
from fedsieve.privacy._grid import grid_spacing
from fedsieve.privacy._twins import refuse_twins
from fedsieve.privacy.guarantee import Event, Unit
from fedsieve.registry import register

if TYPE_CHECKING:
    from torch import Tensor

LARGEST_BATCH = 10**6
"""Expected records of a sum: what is drawn stays below the 2^20 that a sum may hold."""

_BLOCK = 2**17  # numbers of noise drawn at a time: a megabyte stays in the cache


@dataclass(frozen=True)
class Released:
    """Messages (n, k), and what they consist of.

    Args:
        messages: What the clients send.
        noise_norm: Mean over the clients of the norm of the noise in their messages.
        signal_norm: Mean over the clients of the norm of the rest, sum / b. Computed from private
            records: for the simulator's own diagnostics, never sent.
    """

    messages: Tensor
    noise_norm: float
    signal_norm: float


@register("mechanism", "gaussian", paper='Abadi et al., "Deep learning with DP", CCS 2016')
@dataclass(frozen=True)
class GaussianMechanism:
    """Gaussian noise on clipped sums, divided by the public expected batch size.

    The noise is drawn and added in float64; messages are multiples of the public `grid`, rounded
    further where their type is too short for it (float32 is long enough up to 8 s).

    Args:
        clip: Norm C that no summed vector exceeds, > 0.
        noise_multiplier: sigma, noise standard deviation over the clip, > 0.
        batch: Public expected number of records (or clients) in a sum, > 0; need not be whole. Of
            records at most 10^6.
        unit: What one summed vector belongs to.
        clipping: How vectors were clipped to C: cut ("flat"), scaled by C / (norm + gamma)
            ("automatic") or cut layer by layer ("per-layer"); see `fedsieve.learning.clipping`.
            Nothing here depends on it.
        split: How C was dealt to the layers; nothing here depends on it.

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
    clipping: Clipping = "flat"
    split: Split = "equal"

    def __post_init__(self) -> None:
        for name in ("clip", "noise_multiplier", "batch"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                hint = "; without noise nothing is private: leave the mechanism out"
                hint = hint if name == "noise_multiplier" and value == 0 else ""
                raise ValueError(f"{name}={value} must be finite and > 0{hint}")
        require_representable(self.noise_multiplier * self.clip, self.noise_std)
        if self.unit not in get_args(Unit):
            raise ValueError(f"unit={self.unit!r} is not one of {', '.join(get_args(Unit))}")
        if self.unit == "record" and self.batch > LARGEST_BATCH:
            raise ValueError(
                f"batch={self.batch}: the rounding of a sum of so many records' vectors is not "
                f"bounded by 2^-10 of the clip; allowed is {LARGEST_BATCH}"
            )
        if self.clipping not in get_args(Clipping):
            allowed = ", ".join(get_args(Clipping))
            raise ValueError(f"clipping={self.clipping!r} is not one of {allowed}")
        if self.split not in get_args(Split):
            raise ValueError(f"split={self.split!r} is not one of {', '.join(get_args(Split))}")

    @property
    def noise_std(self) -> float:
        """Standard deviation of the noise on each number of a message."""
        return self.noise_multiplier * self.clip / self.batch

    @property
    def grid(self) -> float:
        """Spacing of the public grid on which messages lie: a power of two, at most 2^-20 s."""
        return grid_spacing(self.noise_std)

    def event(self, sampling_rate: float, steps: int = 1) -> Event:
        """The privacy event of so many releases at this sampling rate."""
        return Event(self.noise_multiplier, sampling_rate, steps)

    def privatize(self, sums: Tensor, generators: Sequence[np.random.Generator]) -> Tensor:
        """Turn the clipped sums (n, k) of n clients into their messages (n, k); see `release`."""
        return self.release(sums, generators).messages

    def release(self, sums: Tensor, generators: Sequence[np.random.Generator]) -> Released:
        """The messages of n clients for their clipped sums, and how large noise and signal are.

        Args:
            sums: Row i (k numbers) is the sum of client i's clipped vectors; zero for an empty
                batch.
            generators: One per row, each client's own noise stream.

        Raises:
            ValueError: Not one generator per row, two the same or in the same state, or a sum that
                is not finite: it cannot be a sum of clipped vectors, and noise would not hide it.
        """
        import torch  # not above: the accounting commands start without it

        if sums.ndim != 2 or len(generators) != len(sums):
            raise ValueError(
                f"sums has shape {tuple(sums.shape)} and there are {len(generators)} generators; "
                "needed are shape (n, k) and n generators"
            )
        refuse_twins(generators)
        (n, k), std, grid = sums.shape, self.noise_multiplier * self.clip, self.grid
        messages = torch.empty_like(sums)
        noise_squared, signal_squared = sums.new_zeros(2, n, dtype=torch.float64)
        width = max(1, min(k, _BLOCK))
        height = max(1, _BLOCK // width)
        buffer = np.empty(min(n, height) * width)
        for i, j in itertools.product(range(0, n, height), range(0, k, width)):
            rows, columns = slice(i, min(i + height, n)), slice(j, min(j + width, k))
            shape = rows.stop - i, columns.stop - j
            drawn = buffer[: shape[0] * shape[1]].reshape(shape)
            for row, generator in zip(drawn, generators[rows], strict=True):
                generator.standard_normal(out=row)
            noise = torch.from_numpy(drawn).to(sums.device).mul_(std)
            signal = sums[rows, columns].double()
            noise_squared[rows] += torch.linalg.vector_norm(noise, dim=1).square_()
            signal_squared[rows] += torch.linalg.vector_norm(signal, dim=1).square_()
            # batch * grid is exact, the grid being a power of two
            messages[rows, columns] = noise.add_(signal).div_(self.batch * grid).round_().mul_(grid)
        unclipped = torch.nonzero(~torch.isfinite(signal_squared))
        if len(unclipped):
            raise ValueError(
                f"sum of row {int(unclipped[0])} is not finite: clip every vector, counting one "
                "that is not finite as zero, before summing"
            )
        noise_norm, signal_norm = (
            float(squared.sqrt().mean()) / self.batch for squared in (noise_squared, signal_squared)
        )
        return Released(messages, noise_norm, signal_norm)


def require_representable(*stds: float) -> None:
    """Refuse noise that floating point would turn into none, or into infinity.

    Raises:
        ValueError: A standard deviation outside the normal float64 numbers.
    """
    for std in stds:
        if not sys.float_info.min <= std < math.inf:
            raise ValueError(
                f"noise multiplier, clip and batch make noise of standard deviation {std}; allowed "
                f"is {sys.float_info.min:.3g} to {sys.float_info.max:.3g}"
            )
