"""Neurotoxin: a backdoor in the coordinates that the others leave alone.

Zhang, Panda, Song, Yang, Mahoney, Mittal, Gonzalez, Ramchandran, "Neurotoxin: durable backdoors in
federated learning", ICML 2022. With G the last aggregate, the poisoned update g is projected on the
share of the coordinates in which G is smallest in absolute value,

    g <- g restricted to the bottom-(ratio k) of |G_1|, ..., |G_k|,

and then on the ball of the given norm. The paper projects every local step; here the message is
projected, which is the same for algorithms that send a gradient.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from fedsieve._arguments import real
from fedsieve.poisoning.attack import Knowledge, Scene
from fedsieve.poisoning.backdoor import (
    Backdoor,
    SentBackdoor,
    own_messages,
    shortened,
)
from fedsieve.poisoning.badnets import BadNets
from fedsieve.registry import register


@register("attack", "neurotoxin", paper='Zhang et al., "Neurotoxin", ICML 2022')
@dataclass(frozen=True)
class Neurotoxin(SentBackdoor):
    """Neurotoxin: poisoned updates in the coordinates that benign training changes least.

    Before the first aggregate there is nothing to look at, and the update is sent as it is.

    Args:
        backdoor: What the clients train on.
        mask_ratio: Share of the coordinates that the update may use, in (0, 1].
        norm: Largest norm of a message, > 0; ``None``: any.

    Raises:
        ValueError: ``mask_ratio`` lies outside (0, 1], or ``norm`` is not finite and positive.
    """

    backdoor: Backdoor = field(default_factory=BadNets)
    mask_ratio: float = 0.95
    norm: float | None = None

    uses_last: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        real(self, "mask_ratio", above=0, most=1)
        real(self, "norm", above=0, none="for any")

    @property
    def knowledge(self) -> Knowledge:
        """That of the backdoor; how the model moved is public."""
        return self.backdoor.knowledge

    def craft(self, scene: Scene) -> Tensor:
        """What poisoned training gives each client, projected."""
        own = own_messages(scene)
        if scene.last is not None:
            own = own * smallest(scene.last, self.mask_ratio)
        return own.clone() if self.norm is None else shortened(own, self.norm)


def smallest(aggregate: Tensor, ratio: float) -> Tensor:
    """1 at that share of the coordinates, at least one, where |aggregate| is smallest, else 0.

    Args:
        aggregate: Numbers (k,).
        ratio: Share of the coordinates, in (0, 1].

    Example:
        >>> smallest(torch.tensor([-5.0, 0.1, -0.2, 4.0]), 0.5)
        tensor([0., 1., 1., 0.])
    """
    kept = max(1, int(ratio * len(aggregate)))
    # the absolute value: without it the most negative coordinates, which move most, would be used
    found = aggregate.abs().topk(kept, largest=False).indices
    return torch.zeros_like(aggregate).index_fill_(0, found, 1.0)
