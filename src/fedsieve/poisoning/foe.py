"""FOE, fall of empires, also called inner-product manipulation.

Xie, Koyejo, Gupta, "Fall of empires: breaking Byzantine-tolerant SGD by inner product
manipulation", UAI 2019. With mu the mean of the honest messages, every malicious client sends

    -tau mu.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fedsieve._arguments import real
from fedsieve.poisoning._line_search import line_search
from fedsieve.poisoning.attack import Knowledge, MessageAttack, Scene, zeros
from fedsieve.registry import register


@register("attack", "foe", paper='Xie et al., "Fall of empires", UAI 2019')
@dataclass(frozen=True)
class FOE(MessageAttack):
    """Fall of empires: all malicious clients send the honest mean, reversed and scaled.

    Args:
        strength: The factor tau >= 0; ``None``: the most damaging one in [0, 100], by line search
            against the server's rule.

    Raises:
        ValueError: ``strength`` is negative or not finite.
    """

    strength: float | None = None

    def __post_init__(self) -> None:
        real(self, "strength", least=0, none="for a line search")

    @property
    def knowledge(self) -> Knowledge:
        """Honest messages; for a line search the rule as well."""
        return (
            Knowledge.UPDATES if self.strength is not None else Knowledge.UPDATES | Knowledge.RULE
        )

    def craft(self, scene: Scene) -> Tensor:
        """-tau times the mean of the honest messages."""
        if self.strength is None:
            return line_search(scene, -scene.mean, zeros(scene)).rows
        return scene.rows(-self.strength * scene.mean)
