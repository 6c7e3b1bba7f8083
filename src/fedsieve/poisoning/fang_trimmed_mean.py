"""Directed deviation against coordinatewise rules.

Fang, Cao, Jia, Gong, "Local model poisoning attacks to Byzantine-robust federated learning", USENIX
Security 2020, section on trimmed mean and median. With sigma_j the sign of the honest mean in
coordinate j, min_j and max_j the smallest and largest honest value there, and b = 2, every
malicious client draws, against the way the model would move,

    sigma_j = -1:   U[max_j, b max_j] if max_j > 0, else U[max_j, max_j / b]
    sigma_j = +1:   U[min_j / b, min_j] if min_j > 0, else U[b min_j, min_j],

and with partial knowledge, mu_j and s_j estimated from its accomplices' own honest messages,

    sigma_j = -1:   U[mu_j + 3 s_j, mu_j + 4 s_j],    +1:   U[mu_j - 4 s_j, mu_j - 3 s_j].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedsieve._arguments import flag
from fedsieve.poisoning.attack import Knowledge, MessageAttack, Scene, deviation
from fedsieve.registry import register

B = 2.0  # the paper's b


@register("attack", "fang-median", paper='Fang et al., "Local model poisoning attacks", 2020')
@register("attack", "fang-trimmed-mean", paper='Fang et al., "Local model poisoning attacks", 2020')
@dataclass(frozen=True)
class FangTrimmedMean(MessageAttack):
    """Directed deviation against trimmed mean and median: just beyond the honest values.

    Args:
        partial: Estimate the honest values from the malicious clients' own honest messages.

    Raises:
        ValueError: ``partial`` is not a bool.
    """

    partial: bool = False

    def __post_init__(self) -> None:
        flag(self, "partial")

    @property
    def uses_own(self) -> bool:
        """In the partial form."""
        return self.partial

    @property
    def knowledge(self) -> Knowledge:
        """Honest messages; nothing in the partial form."""
        return Knowledge.NOTHING if self.partial else Knowledge.UPDATES

    def craft(self, scene: Scene) -> Tensor:
        """One draw per client and coordinate, on the far side of where the model would go."""
        seen = scene.seen(partial=self.partial)
        mu = seen.mean(dim=0)
        if self.partial:
            s = deviation(seen, mu)
            above, below = (mu + 3 * s, mu + 4 * s), (mu - 4 * s, mu - 3 * s)
        else:
            highest, lowest = seen.amax(dim=0), seen.amin(dim=0)
            above = highest, torch.where(highest > 0, B * highest, highest / B)
            below = torch.where(lowest > 0, lowest / B, B * lowest), lowest
        falling = mu < 0  # sigma = -1
        start, stop = (
            torch.where(falling, up, down) for up, down in zip(above, below, strict=True)
        )
        share = torch.from_numpy(scene.rng.random((scene.f, scene.k))).to(seen)
        return start + share * (stop - start)
