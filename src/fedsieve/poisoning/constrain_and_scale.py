"""Constrain-and-scale: as much boost as a detector of long updates lets through.

Bagdasaryan, Veit, Hua, Estrin, Shmatikov, "How to backdoor federated learning", AISTATS 2020,
section on evading anomaly detection. With S the longest update that is not conspicuous, the
attacker submits

    L = G + gamma (X - G),    gamma = S / ||X - G||,

but never more than model replacement would. This is the paper's form for detectors that look at the
norm; S is given or is the median norm of the honest messages. The other form adds a term of the
detector's to the loss of local training; at the G where gradient algorithms compute, the gradient
of ||X - G||^2 is zero, and the norm is all that is left to constrain.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from fedsieve.poisoning.attack import Knowledge, Scene
from fedsieve.poisoning.backdoor import (
    Backdoor,
    SentBackdoor,
    check_positive,
    full_boost,
    own_messages,
    shortened,
)
from fedsieve.poisoning.badnets import BadNets
from fedsieve.registry import register


@register(
    "attack",
    "constrain-and-scale",
    paper='Bagdasaryan et al., "How to backdoor federated learning", AISTATS 2020',
)
@dataclass(frozen=True)
class ConstrainAndScale(SentBackdoor):
    """Constrain-and-scale: poisoned updates, boosted up to a norm that is not conspicuous.

    Args:
        backdoor: What the clients train on.
        boost: Largest boost > 0; ``None``: n / (f eta), which replaces the model.
        norm: The norm S > 0 of a message; ``None``: the median of the honest ones.
        server_lr: The server's step size eta > 0.

    Raises:
        ValueError: ``boost``, ``norm`` or ``server_lr`` is not finite and positive.
    """

    backdoor: Backdoor = field(default_factory=BadNets)
    boost: float | None = None
    norm: float | None = None
    server_lr: float = 1.0

    def __post_init__(self) -> None:
        check_positive("boost", self.boost)
        check_positive("norm", self.norm)
        check_positive("server_lr", self.server_lr)

    @property
    def knowledge(self) -> Knowledge:
        """That of the backdoor, and the honest messages if no norm is given."""
        return self.backdoor.knowledge | (
            Knowledge.UPDATES if self.norm is None else Knowledge.NOTHING
        )

    def craft(self, scene: Scene) -> Tensor:
        """min(boost, S / ||x||) x, where x is what poisoned training gives each client."""
        boost = full_boost(scene, self.server_lr) if self.boost is None else self.boost
        norm = scene.honest.norm(dim=1).median() if self.norm is None else self.norm
        return shortened(boost * own_messages(scene), norm)
