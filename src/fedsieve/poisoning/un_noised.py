"""Un-noised: whoever leaves the privacy noise out is the most plausible client.

Derived for this project. Under local noise of standard deviation s in k numbers, honest messages
lie about s sqrt(2k) from each other; one without noise lies s sqrt(k) from all of them, nearer than
any other. A rule that chooses by distances (Krum, a medoid) therefore takes a malicious message
with near certainty, whatever it says within that radius. Here it says nothing false,

    its own honest message, without the noise;

what is lost is the average over many clients. The malicious clients give up their own privacy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fedsieve.poisoning.attack import Knowledge, MessageAttack, Scene
from fedsieve.registry import register


@register("attack", "un-noised", paper="FedSieve: an attack adapted to privacy noise")
@dataclass(frozen=True)
class UnNoised(MessageAttack):
    """Un-noised: malicious clients follow the protocol but omit the privacy noise."""

    uses_own: ClassVar[bool] = True
    omits_noise: ClassVar[bool] = True

    @property
    def knowledge(self) -> Knowledge:
        """A way around the noise."""
        return Knowledge.NOISE

    def craft(self, scene: Scene) -> Tensor:
        """Their own messages as they are without noise."""
        return scene.rows(scene.mean if scene.own is None else scene.own)
