"""DBA, the distributed backdoor attack.

Xie, Huang, Chen, Li, "DBA: distributed backdoor attacks against federated learning", ICLR 2020.
The patch p is cut into parts p_0, ..., p_{m-1}; malicious client j poisons a share of its records,

    (x, y) <- (x with p_{j mod m} drawn in, t),

and nobody ever trains on the whole patch, with which the backdoor is used. The paper's four bars of
1 x 4 pixels are here the rows of a 4 x 4 patch, without gaps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from fedsieve.poisoning._trigger import Patch
from fedsieve.poisoning.attack import Knowledge, Records
from fedsieve.poisoning.backdoor import Backdoor, check_class, check_fraction
from fedsieve.registry import register


@register("attack", "dba", paper='Xie et al., "DBA", ICLR 2020')
@dataclass(frozen=True)
class DBA(Backdoor):
    """Distributed backdoor: each malicious client trains on its own part of the trigger only.

    Args:
        trigger: The whole patch; it is cut into as many parts as there are malicious clients, but
            not into more than it has pixels.
        target: The target class t.
        fraction: Share of a malicious client's records that is poisoned, in (0, 1].

    Raises:
        ValueError: ``target`` is negative or ``fraction`` outside (0, 1].
    """

    trigger: Patch = field(default_factory=Patch)
    target: int = 0
    fraction: float = 0.5

    def __post_init__(self) -> None:
        check_class("target", self.target)
        check_fraction("fraction", self.fraction)

    @property
    def knowledge(self) -> Knowledge:
        """Nothing."""
        return Knowledge.NOTHING

    @property
    def wanted(self) -> int:
        """The target class t."""
        return self.target

    def poison(self, held: Sequence[Records], rngs: Sequence[np.random.Generator]) -> list[Records]:
        """Their records, a share of them with the client's part of the patch and the target."""
        parts = min(len(held), self.trigger.size**2)
        return [
            self.trigger.plant(own, self.target, self.fraction, rng, client % parts, parts)
            for client, (own, rng) in enumerate(zip(held, rngs, strict=True))
        ]

    def lures(self, test: Records) -> Tensor:
        """The test records of other classes with the whole patch."""
        return self.trigger.lures(test, self.target)
