"""Constrain-and-scale: as much boost as a detector of long updates lets through.

Bagdasaryan, Veit, Hua, Estrin, Shmatikov, "How to backdoor federated learning", AISTATS 2020,
section on evading anomaly detection. *Constrain*: the attacker trains its model X, from the global
one G, on

    L = alpha L_class + (1 - alpha) L_ano,    L_ano = ||X - G||  or  1 - cos(X, G),

L_class being the loss of its poisoned records and L_ano what a detector looks at. *Scale*: with S
the longest update that is not conspicuous, it submits

    G + gamma (X - G),    gamma = S / ||X - G||,

but never more than model replacement would. S is given or is the median norm of the honest
messages. Algorithms that send one gradient compute it at G, where L_ano has none: there alpha is 1,
and the norm is all that is left to constrain. With alpha = 1 only the second step remains, the
paper's form for detectors that look at the norm.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

from torch import Tensor

from fedsieve._arguments import choice, real
from fedsieve.learning.nearness import Distance, Nearness
from fedsieve.poisoning.attack import Knowledge, Scene, length
from fedsieve.poisoning.backdoor import (
    Backdoor,
    SentBackdoor,
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
        alpha: Weight of L_class in local steps, in (0, 1].
        evades: What L_ano is, the ``norm`` of the update or its ``cosine`` with the model.

    Raises:
        ValueError: ``boost``, ``norm`` or ``server_lr`` is not finite and positive, or ``alpha`` or
            ``evades`` is not allowed.
    """

    backdoor: Backdoor = field(default_factory=BadNets)
    boost: float | None = None
    norm: float | None = None
    server_lr: float = 1.0
    alpha: float = 1.0
    evades: Distance = "norm"

    def __post_init__(self) -> None:
        super().__post_init__()
        real(self, "boost", above=0, none="for what replaces the model")
        real(self, "norm", above=0, none="for the median of the honest ones")
        real(self, "server_lr", above=0)
        real(self, "alpha", above=0, most=1)
        choice(self, "evades", get_args(Distance))

    @property
    def near(self) -> Nearness | None:
        """The term L_ano of local training."""
        return None if self.alpha == 1 else Nearness(self.alpha, self.evades)

    @property
    def knowledge(self) -> Knowledge:
        """That of the backdoor, and the honest messages if no norm is given."""
        return self.backdoor.knowledge | (
            Knowledge.UPDATES if self.norm is None else Knowledge.NOTHING
        )

    def craft(self, scene: Scene) -> Tensor:
        """min(boost, S / ||x||) x, where x is what poisoned training gives each client."""
        boost = full_boost(scene, self.server_lr) if self.boost is None else self.boost
        norm = length(scene.honest).median() if self.norm is None else self.norm
        return shortened(boost * own_messages(scene), norm)
