"""Un-noised: whoever leaves the privacy noise out is the most plausible client.

Derived for this project. Under local noise of standard deviation s in k numbers, honest messages
lie about s sqrt(2k) from each other; one without noise lies s sqrt(k) from all of them, nearer than
any other. A rule that chooses by distances (Krum, a medoid) therefore takes a malicious message
with near certainty, whatever it says within that radius. Here it says nothing false,

    its own honest message, without the noise;

what is lost is the average over many clients. The malicious clients give up their own privacy.

Under distributed trust a client's noise has two parts, its own and what it shares with others (see
`fedsieve.privacy.CorrelatedGaussian`). Who omits both is chosen as above, and leaves the halves
that the others share with him in their mean, where nothing cancels them; their privacy was reckoned
with that. Who omits his own part alone lies among the others, and saves only his own accuracy.
Where the server adds the noise there is nothing to omit, and the attack is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from fedsieve._arguments import choice
from fedsieve.poisoning.attack import Knowledge, MessageAttack, Scene
from fedsieve.registry import register


@register("attack", "un-noised", paper="FedSieve: an attack adapted to privacy noise")
@dataclass(frozen=True)
class UnNoised(MessageAttack):
    """Un-noised: malicious clients follow the protocol but omit the privacy noise.

    Args:
        pairs: Under distributed trust, whether they ``omit`` or ``keep`` the noise that they share
            with others.

    Raises:
        ValueError: ``pairs`` is another word.
    """

    pairs: Literal["omit", "keep"] = "omit"

    uses_own: ClassVar[bool] = True
    omits_noise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        choice(self, "pairs", ("omit", "keep"))

    @property
    def omits_pairs(self) -> bool:
        """As ``pairs`` says."""
        return self.pairs == "omit"

    @property
    def knowledge(self) -> Knowledge:
        """A way around the noise."""
        return Knowledge.NOISE

    def craft(self, scene: Scene) -> Tensor:
        """Their own messages as they are without noise."""
        return scene.rows(scene.mean if scene.own is None else scene.own)
