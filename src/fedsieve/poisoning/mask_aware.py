"""Mask-aware: whoever knows the seed of the projections waits for the rounds that suit him.

Derived for this project. A message of k numbers can only push the model within the round's
subspace. With a (d,) the exponential average of the lifted honest means and P_t the map of round t,
the attacker sends

    -tau mu   if  ||P_t a|| >= the upper quartile of  ||P_t a||, ||P_{t+1} a||, ... ,

the maps that are still to come being known to it, and else what it would honestly send. It thus
spends what suspicion it raises on the quarter of the rounds in which the subspace holds most of
what training needs. Where the map never changes every round is as good as any.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from fedsieve._arguments import integer, real
from fedsieve.poisoning._line_search import line_search
from fedsieve.poisoning.attack import (
    Knowledge,
    Memory,
    MessageAttack,
    Scene,
    length,
    zeros,
)
from fedsieve.registry import register

DECAY = 0.9  # of the average a
QUARTILE = 0.75


@register("attack", "mask-aware", paper="FedSieve: an attack adapted to shared projections")
@dataclass(frozen=True)
class MaskAware(MessageAttack):
    """Mask-aware: reverses the honest mean in rounds whose projection keeps most of it.

    Args:
        strength: The factor tau >= 0; ``None``: the most damaging one in [0, 100], by line search
            against the server's rule.
        horizon: How many projections it looks ahead, >= 1.

    Raises:
        ValueError: An argument outside its range.
    """

    strength: float | None = None
    horizon: int = 7

    uses_own: ClassVar[bool] = True

    def __post_init__(self) -> None:
        real(self, "strength", least=0, none="for a line search")
        integer(self, "horizon", 1)

    @property
    def knowledge(self) -> Knowledge:
        """Honest messages and the projections to come; for a line search the rule as well."""
        searched = Knowledge.RULE if self.strength is None else Knowledge.NOTHING
        return Knowledge.UPDATES | Knowledge.PROJECTION | searched

    def craft(self, scene: Scene) -> Tensor:
        """-tau mu in a favourable round, honest messages in another."""
        if not self.favourable(scene):
            return scene.rows(scene.mean if scene.own is None else scene.own)
        if self.strength is None:
            return line_search(scene, -scene.mean, zeros(scene)).rows
        return scene.rows(-self.strength * scene.mean)

    def remember(self, scene: Scene, rows: Tensor) -> Memory:  # noqa: ARG002 - of the form
        """a, moved by the lifted honest mean."""
        lifted = scene.lift(scene.mean)
        held = scene.memory.get("aim")
        return {"aim": lifted.clone() if held is None else DECAY * held + (1 - DECAY) * lifted}

    def favourable(self, scene: Scene) -> bool:
        """Whether this round's map keeps as much of a as the better quarter of those to come."""
        aim = scene.memory.get("aim")
        if aim is None or scene.foresee is None:
            return True
        now = float(length(scene.project(aim)))
        later = [float(length(scene.foresee(i).project(aim))) for i in range(1, self.horizon + 1)]
        return now >= float(np.quantile([now, *later], QUARTILE))
