"""Directed deviation against Krum.

Fang, Cao, Jia, Gong, "Local model poisoning attacks to Byzantine-robust federated learning", USENIX
Security 2020, section on Krum. Relative to the current model a message is an update, and one
malicious client sends

    w = -lambda sign(mu),

mu the honest mean, with the largest lambda of a halving series that Krum chooses; the others
support it from within a small distance. The series starts at the paper's upper bound (n clients, k
numbers, Gamma_i the n - f - 2 honest messages nearest to x_i)

    sqrt(min_i sum_{l in Gamma_i} ||x_l - x_i||^2 / ((n - 2f - 1) k)) + max_i ||x_i|| / sqrt(k).

With partial knowledge the accomplices' own honest messages stand for those of the others, beside 1,
2, ... f copies of w. Two lengths that are absolute in the paper are relative here: the series ends
at 1e-5 of its start, and supporters lie within 0.01 ||w||.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fedsieve._arguments import flag
from fedsieve.poisoning._directions import gaussian
from fedsieve.poisoning.attack import Knowledge, MessageAttack, Scene, length, squared_distances
from fedsieve.registry import register

LEAST = 1e-5  # of the first lambda: when to give up
RADIUS = 0.01  # of ||w||: how far its supporters are


@register("attack", "fang-krum", paper='Fang et al., "Local model poisoning attacks", 2020')
@dataclass(frozen=True)
class FangKrum(MessageAttack):
    """Directed deviation against Krum: the farthest message that Krum still chooses.

    Args:
        partial: Let the malicious clients' own honest messages stand for those of the others.

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
        """Honest messages; nothing in the partial form. It simulates Krum itself."""
        return Knowledge.NOTHING if self.partial else Knowledge.UPDATES

    def craft(self, scene: Scene) -> Tensor:
        """-lambda sign(mu) once, and f - 1 supporters of it."""
        seen = scene.seen(partial=self.partial)
        sign = seen.mean(dim=0).sign()
        copies = range(1, scene.f + 1) if self.partial else (scene.f,)
        w = scene.honest.new_zeros(scene.k)
        for f in copies if scene.f else ():
            strength = largest_lambda(seen, sign, f)
            w = -strength * sign
            if strength > 0:
                break
        supporters = gaussian(scene.rng, (scene.f, scene.k), scene.honest)
        supporters /= length(supporters)[:, None]
        distance = torch.from_numpy(scene.rng.random((scene.f, 1))).to(supporters)
        distance[:1] = 0
        reach = RADIUS * float(length(w))
        return supporters.mul_(reach * distance).add_(w)


def largest_lambda(seen: Tensor, sign: Tensor, f: int) -> float:
    """The first lambda of the halving series for which Krum chooses -lambda sign; 0 if none.

    Args:
        seen: Honest messages (h, k), or what stands for them.
        sign: Sign of the honest mean, (k,).
        f: Copies of the malicious message, which is Krum's f as well.
    """
    h, k = seen.shape
    n, near = h + f, max(h - 2, 1)
    closest = squared_distances(seen).sort(dim=1).values[:, 1 : near + 1].sum(dim=1)
    first = math.sqrt(float(closest.min()) / (max(n - 2 * f - 1, 1) * k))
    first += float(length(seen).max()) / math.sqrt(k)
    strength = first
    while strength > LEAST * first:
        stack = torch.cat([seen, (-strength * sign).expand(f, -1)])
        scores = squared_distances(stack).sort(dim=1).values[:, 1 : near + 1].sum(dim=1)
        if scores[h] < scores[:h].min():
            return strength
        strength /= 2
    return 0.0
