"""Index poisoning.

Derived for this project, after the observation of "SafeSparse" (arXiv 2505.01454) that sparse
messages are poisoned by their indices. Where every client sends its own top coordinates, most
coordinates are sent by hardly anybody, and a server that averages over senders lets those few
decide. All malicious clients send, on the m coordinates that the fewest honest messages use (of
equals, those of least total magnitude), the same

    +-r / sqrt(m),    r the median norm of the honest messages,

and zero elsewhere: a message as long as any other.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedsieve._arguments import real
from fedsieve.poisoning.attack import Knowledge, MessageAttack, Scene, length
from fedsieve.registry import register


@register("attack", "index-poisoning", paper="FedSieve: an attack adapted to sparse messages")
@dataclass(frozen=True)
class IndexPoisoning(MessageAttack):
    """Index poisoning: all of a message's length on the coordinates that others use least.

    Args:
        strength: Share of the coordinates that it uses, 0 < strength <= 1; ``None``: 0.01.

    Raises:
        ValueError: ``strength`` lies outside (0, 1].
    """

    strength: float | None = None

    def __post_init__(self) -> None:
        real(self, "strength", above=0, most=1, none="for 0.01")

    @property
    def knowledge(self) -> Knowledge:
        """Honest messages."""
        return Knowledge.UPDATES

    def craft(self, scene: Scene) -> Tensor:
        """The same signs for all malicious clients, drawn anew each round."""
        share = 0.01 if self.strength is None else self.strength
        m = max(1, round(share * scene.k))
        size = scene.honest.abs()
        by_magnitude = size.sum(dim=0).argsort(stable=True)
        users = (size > 0).sum(dim=0)[by_magnitude]
        rare = by_magnitude[users.argsort(stable=True)[:m]]
        r = length(scene.honest).median()
        signs = torch.from_numpy(scene.rng.choice([-1.0, 1.0], size=m)).to(scene.honest)
        message = torch.zeros_like(scene.honest[0])
        message[rare] = signs * r / m**0.5
        return scene.rows(message)
