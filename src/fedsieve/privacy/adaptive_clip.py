"""A clip that follows a quantile of the norms, found privately.

Andrew, Thakkar, McMahan, Ramaswamy, "Differentially Private Learning with Adaptive Clipping",
NeurIPS 2021. With b_x = 1 where |g_x| <= C, else 0, and m the public expected size of a batch,

    share = 1/2 + ( sum_x (b_x - 1/2) + N(0, s^2) ) / m
    C    <- C exp(-rate (share - quantile)).

A record moves the sum by 1/2, so the count is a Gaussian release of noise multiplier 2 s on the
batch of the gradients. Both together are one Gaussian release of the multiplier sigma with

    1 / sigma^2 = 1 / sigma_gradient^2 + 1 / (2 s)^2,

which is what the accountant is to be told.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedsieve.privacy._grid import grid_spacing, to_grid
from fedsieve.privacy._twins import refuse_twins
from fedsieve.privacy.guarantee import Event
from fedsieve.registry import register

FloatArray = NDArray[np.float64]


@register(
    "mechanism",
    "adaptive-clip",
    paper='Andrew et al., "DP learning with adaptive clipping", NeurIPS 2021',
)
@dataclass(frozen=True)
class AdaptiveClip:
    """Moves the clip towards a quantile of the norms; the count of short norms is private too.

    Args:
        noise_std: s, noise on the count of norms below the clip, > 0; the paper takes m / 20.
        quantile: Share of norms that the clip is to leave alone, in (0, 1).
        rate: Step of the logarithm of the clip, > 0.

    Raises:
        ValueError: An argument outside these ranges.

    Example:
        >>> adaptive = AdaptiveClip(noise_std=5.0)
        >>> round(adaptive.gradient_multiplier(1.0), 4)
        1.005
        >>> round(adaptive.next_clip(2.0, share=1.0), 3)
        1.81
    """

    noise_std: float
    quantile: float = 0.5
    rate: float = 0.2

    def __post_init__(self) -> None:
        for name in ("noise_std", "rate"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name}={value} must be finite and > 0")
        if not 0 < self.quantile < 1:
            raise ValueError(f"quantile={self.quantile} must be in (0, 1)")

    @property
    def grid(self) -> float:
        """Spacing of the public grid on which noisy counts lie, a power of two."""
        return grid_spacing(self.noise_std)

    def event(self, gradient_multiplier: float, sampling_rate: float, steps: int = 1) -> Event:
        """The event of releasing gradients and counts together, so many times.

        Raises:
            ValueError: A multiplier that is not finite and > 0, or an argument outside the ranges
                of an event.
        """
        Event(gradient_multiplier, sampling_rate, steps)
        both = math.hypot(1 / gradient_multiplier, 0.5 / self.noise_std)
        return Event(1 / both, sampling_rate, steps)

    @classmethod
    def costing(
        cls, noise_multiplier: float, share: float = 0.02, quantile: float = 0.5, rate: float = 0.2
    ) -> AdaptiveClip:
        """Counts that cost a share of what both together may: of 1 / sigma^2.

        Args:
            noise_multiplier: sigma of both together, > 0.
            share: In (0, 1); the gradients' multiplier grows by a factor (1 - share)^(-1/2).
            quantile: Share of norms that the clip is to leave alone, in (0, 1).
            rate: Step of the logarithm of the clip, > 0.

        Raises:
            ValueError: An argument outside these ranges.
        """
        if not 0 < share < 1:
            raise ValueError(f"share={share} must be in (0, 1)")
        return cls(noise_multiplier / (2 * math.sqrt(share)), quantile, rate)

    def gradient_multiplier(self, noise_multiplier: float) -> float:
        """The gradients' noise multiplier with which both together are worth the given one.

        Raises:
            ValueError: The count alone reveals more than that.
        """
        share = (noise_multiplier / (2 * self.noise_std)) ** 2
        if not share < 1:
            raise ValueError(
                f"noise_std={self.noise_std} must be > {noise_multiplier / 2:.6g}, half of "
                "noise_multiplier: otherwise the count alone spends the whole budget"
            )
        return noise_multiplier / math.sqrt(1 - share)

    def shares(
        self,
        norms: Sequence[FloatArray],
        clip: float,
        batch: float,
        generators: Sequence[np.random.Generator],
    ) -> FloatArray:
        """Noisy shares (n,) of each client's norms that are at most the clip.

        Args:
            norms: For each client, the norms of the records of its Poisson batch; possibly none.
                One that is not finite counts as above the clip.
            clip: C.
            batch: m, the public expected number of records.
            generators: One per client, its own noise stream.

        Raises:
            ValueError: Not one generator per client, or two the same or in the same state.
        """
        if len(generators) != len(norms):
            raise ValueError(
                f"there are {len(generators)} generators for {len(norms)} clients; "
                "each needs its own"
            )
        refuse_twins(generators)
        sums = np.array([np.sum(np.where(own <= clip, 0.5, -0.5)) for own in norms])
        noise = np.array([generator.standard_normal() for generator in generators])
        return 0.5 + to_grid(sums + self.noise_std * noise, self.grid) / batch

    def next_clip(self, clip: float, share: float) -> float:
        """The clip after a share, such as the mean of the clients'; post-processing."""
        return clip * math.exp(-self.rate * (min(max(share, 0.0), 1.0) - self.quantile))
