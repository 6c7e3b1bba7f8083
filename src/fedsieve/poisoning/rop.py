"""ROP, relocated orthogonal perturbation.

Ozfatura, Ozfatura, Kupcu, Gunduz, "Byzantines can also learn from history: fall of centered
clipping in federated learning", IEEE TIFS 2024; the lengths are this project's. A rule with history
clips messages around a reference, the last aggregate r; a perturbation orthogonal to what it
expects is hard to tell from noise. With mu the honest mean and c = lambda r + (1 - lambda) mu,

    q = mu - <mu, c> c / ||c||^2,    q <- -q / ||q||    (a draw orthogonal to c where q = 0)
    message = r + z s q,

with s the root mean square distance of the honest messages from mu. The reference is public: it is
by r that the last round moved the model (`Scene.last`; 0 before the first).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fedsieve._arguments import real
from fedsieve.poisoning._directions import gaussian
from fedsieve.poisoning.attack import (
    Knowledge,
    MessageAttack,
    Scene,
    length,
    unit,
    zeros,
)
from fedsieve.registry import register


@register("attack", "rop", paper='Ozfatura et al., "Byzantines can also learn from history", 2024')
@dataclass(frozen=True)
class ROP(MessageAttack):
    """ROP: the last aggregate, moved at right angles to where training goes.

    Args:
        strength: Length z >= 0 of the move in honest standard deviations; ``None``: 1.
        relocation: Weight lambda in [0, 1] of the last aggregate in what the move is orthogonal to.

    Raises:
        ValueError: An argument outside its range.
    """

    strength: float | None = None
    relocation: float = 0.9

    uses_last: ClassVar[bool] = True

    def __post_init__(self) -> None:
        real(self, "strength", least=0, none="for 1")
        real(self, "relocation", least=0, most=1)

    @property
    def knowledge(self) -> Knowledge:
        """Honest messages; how the model moved is public."""
        return Knowledge.UPDATES

    def craft(self, scene: Scene) -> Tensor:
        """The message r + z s q."""
        mu = scene.mean
        r = zeros(scene) if scene.last is None else scene.last.to(mu)
        c = unit(self.relocation * r + (1 - self.relocation) * mu)
        q = _across(mu, c)
        if length(q) <= 1e-6 * length(mu):
            q = _across(gaussian(scene.rng, (scene.k,), mu), c)
        z = 1.0 if self.strength is None else self.strength
        return scene.rows(r - z * length(scene.std) * unit(q))


def _across(x: Tensor, c: Tensor) -> Tensor:
    """What of x is orthogonal to the unit vector c."""
    return x - (x @ c) * c
