"""Directed deviation against coordinatewise rules.

Fang, Cao, Jia, Gong, "Local model poisoning attacks to Byzantine-robust federated learning", USENIX
Security 2020, section on trimmed mean and median. With sigma_j the sign of the honest mean in
coordinate j, min_j and max_j the smallest and largest honest value there, and b = 2, every
malicious client draws, against the way the model would move,

    sigma_j = -1:   U[max_j, b max_j] if max_j > 0, else U[max_j, max_j / b]
    sigma_j = +1:   U[min_j / b, min_j] if min_j > 0, else U[b min_j, min_j],

and with partial knowledge, mu_j and s_j estimated from its accomplices' own honest messages,

    sigma_j = -1:   U[mu_j + 3 s_j, mu_j + 4 s_j],    +1:   U[mu_j - 4 s_j, mu_j - 3 s_j].

In the paper clients send local *models* theta + Delta_i, and min_j and max_j are parameters: the
deviation is of the size of theta_j, however little the honest models differ. Here that is
``space="parameters"``: the values are drawn in R^d around the public model, and what of
(draw - theta) fits into a message is sent. In the space of the updates theta is left out, and the
deviation shrinks with the honest updates: harder to see, and the weaker of the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from fedsieve._arguments import choice, flag
from fedsieve.poisoning.attack import Knowledge, MessageAttack, Scene, deviation
from fedsieve.registry import register

B = 2.0  # the paper's b
Space = Literal["updates", "parameters"]


@register("attack", "fang-median", paper='Fang et al., "Local model poisoning attacks", 2020')
@register("attack", "fang-trimmed-mean", paper='Fang et al., "Local model poisoning attacks", 2020')
@dataclass(frozen=True)
class FangTrimmedMean(MessageAttack):
    """Directed deviation against trimmed mean and median: just beyond the honest values.

    Args:
        partial: Estimate the honest values from the malicious clients' own honest messages.
        space: ``updates``, or the paper's ``parameters``: what the honest values are. Of numbers
            that are no part of the model (control variates) the updates are all there is.
        alike: Whether all of them send one draw, as in the public code of Zhu et al. (AISTATS
            2023): what they contaminate then lies together. In the paper each draws for itself.

    Raises:
        ValueError: ``partial`` or ``alike`` is not a bool, ``space`` is neither, or ``parameters``
            in the partial form, which draws by mean and spread wherever the model is.
    """

    partial: bool = False
    space: Space = "updates"
    alike: bool = False

    def __post_init__(self) -> None:
        flag(self, "partial")
        flag(self, "alike")
        choice(self, "space", get_args(Space))
        if self.partial and self.space == "parameters":
            raise ValueError(
                "space='parameters' with partial=True: mean and spread are the same wherever the "
                "model is; leave space out, or partial"
            )

    @property
    def uses_own(self) -> bool:
        """In the partial form."""
        return self.partial

    @property
    def uses_model(self) -> bool:
        """In the space of the parameters."""
        return self.space == "parameters"

    @property
    def knowledge(self) -> Knowledge:
        """Honest messages; nothing in the partial form. The model is public."""
        return Knowledge.NOTHING if self.partial else Knowledge.UPDATES

    def craft(self, scene: Scene) -> Tensor:
        """One draw per client (unless alike) and coordinate, against the way of the model."""
        if self.uses_model and scene.model is not None:
            theta = scene.model.to(scene.honest)
            moves = scene.lift(scene.honest)
            return scene.project(self._drawn(scene, moves, theta) - theta)
        return self._drawn(scene, scene.seen(partial=self.partial))

    def _drawn(self, scene: Scene, moves: Tensor, theta: Tensor | None = None) -> Tensor:
        """Values beyond those of theta + moves, (f, k) or (f, d)."""
        mu = moves.mean(dim=0)
        if self.partial:
            s = deviation(moves, mu)
            above, below = (mu + 3 * s, mu + 4 * s), (mu - 4 * s, mu - 3 * s)
        else:
            highest, lowest = moves.amax(dim=0), moves.amin(dim=0)
            if theta is not None:
                highest, lowest = highest + theta, lowest + theta
            above = highest, torch.where(highest > 0, B * highest, highest / B)
            below = torch.where(lowest > 0, lowest / B, B * lowest), lowest
        falling = mu < 0  # sigma = -1
        start, stop = (
            torch.where(falling, up, down) for up, down in zip(above, below, strict=True)
        )
        draws = min(scene.f, 1) if self.alike else scene.f
        share = torch.from_numpy(scene.rng.random((draws, len(mu)))).to(moves)
        return (start + share * (stop - start)).expand(scene.f, -1).contiguous()
