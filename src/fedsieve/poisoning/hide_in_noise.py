"""Hiding in the privacy noise.

Derived for this project. Private messages are their mean plus noise of standard deviation s in each
of k numbers, s from the public clip, noise multiplier and momentum: they lie at distance s sqrt(k)
from the mean, all in different directions. Every malicious client sends

    mu - tau s sqrt(k) mu / ||mu||,

at tau = 1 no farther from the mean than the honest messages, and nearer to its accomplices; a
filter of distances has no reason to drop it. It moves an average by (f/n) tau s sqrt(k) against
training, whatever the size of the gradient is.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fedsieve._arguments import flag, real
from fedsieve.poisoning.attack import Knowledge, MessageAttack, Scene, unit
from fedsieve.registry import register


@register("attack", "hide-in-noise", paper="FedSieve: an attack adapted to privacy noise")
@dataclass(frozen=True)
class HideInNoise(MessageAttack):
    """Hide in noise: a push against training, as long as the privacy noise of honest messages.

    Args:
        strength: Its length tau >= 0 in lengths of the noise; ``None``: 1.
        partial: Estimate mu from the malicious clients' own honest messages.

    Raises:
        ValueError: ``strength`` is negative or not finite.
    """

    strength: float | None = None
    partial: bool = False

    def __post_init__(self) -> None:
        real(self, "strength", least=0, none="for 1")
        flag(self, "partial")

    @property
    def uses_own(self) -> bool:
        """In the partial form."""
        return self.partial

    @property
    def knowledge(self) -> Knowledge:
        """The noise, and honest messages except in the partial form."""
        return Knowledge.NOISE if self.partial else Knowledge.NOISE | Knowledge.UPDATES

    def craft(self, scene: Scene) -> Tensor:
        """The message mu - tau s sqrt(k) mu / ||mu||."""
        mu = scene.seen(partial=self.partial).mean(dim=0)
        tau = 1.0 if self.strength is None else self.strength
        length = tau * (scene.noise_std or 0.0) * scene.k**0.5
        return scene.rows(mu - length * unit(mu))
