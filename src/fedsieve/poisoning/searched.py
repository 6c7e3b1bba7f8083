"""Line search along any direction.

The optimised attack in its general form (Shejwalkar and Houmansadr, "Manipulating the Byzantine",
NDSS 2021): every malicious client sends

    mu + tau p,    tau = argmax ||lift(R(honest U {mu + tau p}) - mu)||,

with mu the honest mean, p a direction and R the server's whole way from decoded messages to one
vector. The directions are those of `fedsieve.poisoning._directions`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from torch import Tensor

from fedsieve._arguments import choice, real
from fedsieve.poisoning._directions import AnyDirection, gaussian, perturbation
from fedsieve.poisoning._line_search import REACH, line_search
from fedsieve.poisoning.attack import (
    Knowledge,
    MessageAttack,
    Scene,
    length,
    unit,
)
from fedsieve.registry import register


@register("attack", "line-search", paper='Shejwalkar, Houmansadr, "Manipulating the Byzantine"')
@dataclass(frozen=True)
class LineSearch(MessageAttack):
    """Line search: the honest mean, shifted along a direction as far as damages the model most.

    Args:
        direction: ``std``, ``mean``, ``sign``, ``own`` or ``random``; all but ``std`` are scaled to
            the length of the honest standard deviation, so that tau means the same everywhere.
        strength: A fixed tau, either way; ``None``: the most damaging one in [-100, 100].

    Raises:
        ValueError: ``strength`` is not finite, or no direction has that name.
    """

    direction: AnyDirection = "std"
    strength: float | None = None

    def __post_init__(self) -> None:
        choice(self, "direction", get_args(AnyDirection))
        real(self, "strength", none="for a line search")

    @property
    def uses_own(self) -> bool:
        """Along its own direction."""
        return self.direction == "own"

    @property
    def knowledge(self) -> Knowledge:
        """Honest messages; for a line search the rule as well."""
        searched = Knowledge.RULE if self.strength is None else Knowledge.NOTHING
        return Knowledge.UPDATES | searched

    def craft(self, scene: Scene) -> Tensor:
        """The message mu + tau p."""
        p = self._along(scene)
        if self.strength is None:
            return line_search(scene, p, scene.mean, lower=-REACH).rows
        return scene.rows(scene.mean + self.strength * p)

    def _along(self, scene: Scene) -> Tensor:
        if self.direction == "std":
            return -scene.std
        if self.direction == "random":
            return scene.std * gaussian(scene.rng, (scene.k,), scene.honest)
        if self.direction == "own":
            p = -scene.seen(partial=True).mean(dim=0)
        else:
            p = perturbation(self.direction, scene.honest)
        return unit(p).mul_(length(scene.std))
