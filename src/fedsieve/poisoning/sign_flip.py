"""Sign flip.

Li, Xu, Chen, Giannakis, Ling, "RSA: Byzantine-robust stochastic aggregation methods for
distributed learning from heterogeneous datasets", AAAI 2019. With x_k what the malicious client k
would send if it were honest, it sends

    -c x_k.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fedsieve._arguments import real
from fedsieve.poisoning._line_search import line_search
from fedsieve.poisoning.attack import Knowledge, MessageAttack, Scene, zeros
from fedsieve.registry import register


@register("attack", "sign-flip", paper='Li et al., "RSA", AAAI 2019')
@dataclass(frozen=True)
class SignFlip(MessageAttack):
    """Sign flip: each malicious client sends its own honest message, reversed and scaled.

    Args:
        strength: The factor c >= 0; ``None``: the most damaging one in [0, 100], by line search
            against the server's rule.

    Raises:
        ValueError: ``strength`` is negative or not finite.
    """

    strength: float | None = None

    uses_own: ClassVar[bool] = True

    def __post_init__(self) -> None:
        real(self, "strength", least=0, none="for a line search")

    @property
    def knowledge(self) -> Knowledge:
        """Nothing for a fixed strength; honest messages and the rule for a line search."""
        return (
            Knowledge.NOTHING if self.strength is not None else Knowledge.UPDATES | Knowledge.RULE
        )

    def craft(self, scene: Scene) -> Tensor:
        """-c times the malicious clients' own messages; the honest mean where they have none."""
        own = scene.mean if scene.own is None else scene.own
        if self.strength is None:
            return line_search(scene, -own, zeros(scene)).rows
        return scene.rows(-self.strength * own)
