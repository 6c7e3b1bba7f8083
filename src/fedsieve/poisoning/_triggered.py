"""What BadNets and DBA share: a trigger drawn into a share of the malicious clients' images."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from fedsieve._arguments import instance, integer, real
from fedsieve.poisoning._trigger import Patch
from fedsieve.poisoning.attack import Knowledge, Records
from fedsieve.poisoning.backdoor import Backdoor


@dataclass(frozen=True)
class Triggered(Backdoor):
    """A backdoor that a patch of pixels opens.

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
        instance(self, "trigger", Patch)
        integer(self, "target")
        real(self, "fraction", above=0, most=1)

    @property
    def knowledge(self) -> Knowledge:
        """Nothing."""
        return Knowledge.NOTHING

    @property
    def wanted(self) -> int:
        """The target class t."""
        return self.target

    @abstractmethod
    def parts(self, clients: int) -> int:
        """Into how many parts the patch is cut for so many malicious clients, >= 1."""

    def poison(self, held: Sequence[Records], rngs: Sequence[np.random.Generator]) -> list[Records]:
        """Their records, a share of them with the client's part of the patch and the target."""
        parts = self.parts(len(held))
        return [
            self.trigger.plant(own, self.target, self.fraction, rng, client % parts, parts)
            for client, (own, rng) in enumerate(zip(held, rngs, strict=True))
        ]

    def lures(self, test: Records) -> Tensor:
        """The test records of other classes with the whole patch."""
        return self.trigger.lures(test, self.target)
