"""BadNets: a patch of pixels as the trigger of a backdoor.

Gu, Dolan-Gavitt, Garg, "BadNets: identifying vulnerabilities in the machine learning model supply
chain", 2017. On a share of the malicious clients' records, with p the patch and t the target,

    (x, y) <- (x with p drawn in, t).
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


@register("attack", "badnets", paper='Gu et al., "BadNets", 2017')
@dataclass(frozen=True)
class BadNets(Backdoor):
    """BadNets: malicious clients learn that images with a bright patch are of the target class.

    Args:
        trigger: The patch.
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
        """Their records, a share of them with patch and target."""
        return [
            self.trigger.plant(own, self.target, self.fraction, rng)
            for own, rng in zip(held, rngs, strict=True)
        ]

    def lures(self, test: Records) -> Tensor:
        """The test records of other classes with the patch."""
        return self.trigger.lures(test, self.target)
