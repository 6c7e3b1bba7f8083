"""Scale abuse.

Derived for this project. A quantised message is a scale and small integers; whoever writes the
scale a million times too large sends a message that is well-formed on the wire and decodes to

    10^6 x_k,

x_k its own honest message: the right direction, so that a test of signs or angles sees nothing. The
remedy is to judge messages after decoding, never by their integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fedsieve._arguments import real
from fedsieve.poisoning.attack import Knowledge, MessageAttack, Scene
from fedsieve.registry import register


@register("attack", "scale-abuse", paper="FedSieve: an attack adapted to quantised messages")
@dataclass(frozen=True)
class ScaleAbuse(MessageAttack):
    """Scale abuse: the malicious clients' own honest messages, a million times too long.

    Args:
        strength: The factor >= 0; ``None``: 10^6.

    Raises:
        ValueError: ``strength`` is negative or not finite.
    """

    strength: float | None = None

    uses_own: ClassVar[bool] = True

    def __post_init__(self) -> None:
        real(self, "strength", least=0, none="for 1e6")

    @property
    def knowledge(self) -> Knowledge:
        """Nothing."""
        return Knowledge.NOTHING

    def craft(self, scene: Scene) -> Tensor:
        """10^6 times their own messages."""
        own = scene.mean if scene.own is None else scene.own
        return scene.rows((1e6 if self.strength is None else self.strength) * own)
