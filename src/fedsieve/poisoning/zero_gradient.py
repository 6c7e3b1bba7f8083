"""Zero gradient.

Li, Xu, Chen, Giannakis, Ling, "RSA: Byzantine-robust stochastic aggregation methods for
distributed learning from heterogeneous datasets", AAAI 2019. With x_1 ... x_h the honest messages,
each of the f malicious clients sends

    -(x_1 + ... + x_h) / f,

so that the sum of all messages is zero and a server that averages stands still.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fedsieve.poisoning.attack import Knowledge, MessageAttack, Scene
from fedsieve.registry import register


@register("attack", "zero-gradient", paper='Li et al., "RSA", AAAI 2019')
@dataclass(frozen=True)
class ZeroGradient(MessageAttack):
    """Zero gradient: malicious messages cancel the sum of the honest ones."""

    @property
    def knowledge(self) -> Knowledge:
        """Honest messages."""
        return Knowledge.UPDATES

    def craft(self, scene: Scene) -> Tensor:
        """-(sum of the honest messages) / f."""
        return scene.rows(-scene.honest.sum(dim=0) / max(scene.f, 1))
