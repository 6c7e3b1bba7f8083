"""Gaussian messages.

Blanchard, El Mhamdi, Guerraoui, Stainer, "Machine learning with adversaries: Byzantine tolerant
gradient descent", NeurIPS 2017 (centre 0); Wu, Ling, Chen, Giannakis, "Federated variance-reduced
stochastic gradient descent with robustness to Byzantine attacks", IEEE TSP 2020 (centre mu, the
mean of the honest messages). Every malicious client draws its own

    c + s Z,    Z ~ N(0, I_k),    c = 0 or mu.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from fedsieve._arguments import choice, real
from fedsieve.poisoning._directions import gaussian
from fedsieve.poisoning.attack import Knowledge, MessageAttack, Scene
from fedsieve.registry import register


@register("attack", "gaussian", paper='Blanchard et al., "Machine learning with adversaries", 2017')
@dataclass(frozen=True)
class Gaussian(MessageAttack):
    """Gaussian: malicious clients send noise in place of a message.

    Args:
        strength: Standard deviation s >= 0 of each number; ``None``: 200, as in the paper.
        centre: Mean of the noise, ``zero`` or the honest ``mean``.

    Raises:
        ValueError: ``strength`` is negative or not finite, or no centre has that name.
    """

    strength: float | None = None
    centre: Literal["zero", "mean"] = "zero"

    def __post_init__(self) -> None:
        real(self, "strength", least=0, none="for 200")
        choice(self, "centre", ("zero", "mean"))

    @property
    def knowledge(self) -> Knowledge:
        """Nothing around zero; honest messages around their mean."""
        return Knowledge.UPDATES if self.centre == "mean" else Knowledge.NOTHING

    def craft(self, scene: Scene) -> Tensor:
        """C + s Z, another draw for every client."""
        std = 200.0 if self.strength is None else self.strength
        noise = std * gaussian(scene.rng, (scene.f, scene.k), scene.honest)
        return noise + scene.mean if self.centre == "mean" else noise
