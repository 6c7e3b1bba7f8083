"""Model replacement.

Bagdasaryan, Veit, Hua, Estrin, Shmatikov, "How to backdoor federated learning", AISTATS 2020. With
G the global model, X the attacker's backdoored one and eta the server's step over a mean of n
models, the attacker submits

    L = G + gamma (X - G),    gamma = n / eta,

so that the others' small changes aside, the mean becomes X. Here f malicious clients share that
boost, gamma = n / (f eta). What an algorithm with local steps sends is the difference X - G; what a
gradient algorithm sends is scaled just as well.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from fedsieve._arguments import real
from fedsieve.poisoning.attack import Knowledge, Scene
from fedsieve.poisoning.backdoor import (
    Backdoor,
    SentBackdoor,
    full_boost,
    own_messages,
)
from fedsieve.poisoning.badnets import BadNets
from fedsieve.registry import register


@register(
    "attack",
    "model-replacement",
    paper='Bagdasaryan et al., "How to backdoor federated learning", AISTATS 2020',
)
@dataclass(frozen=True)
class ModelReplacement(SentBackdoor):
    """Model replacement: poisoned updates, boosted until their mean is the new model.

    Args:
        backdoor: What the clients train on.
        boost: gamma > 0; ``None``: n / (f eta).
        server_lr: The server's step size eta > 0.

    Raises:
        ValueError: ``boost`` or ``server_lr`` is not finite and positive.
    """

    backdoor: Backdoor = field(default_factory=BadNets)
    boost: float | None = None
    server_lr: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        real(self, "boost", above=0, none="for what replaces the model")
        real(self, "server_lr", above=0)

    @property
    def knowledge(self) -> Knowledge:
        """That of the backdoor; the size of the cohort is public."""
        return self.backdoor.knowledge

    def craft(self, scene: Scene) -> Tensor:
        """What poisoned training gives each client, times gamma."""
        gamma = full_boost(scene, self.server_lr) if self.boost is None else self.boost
        return gamma * own_messages(scene)
