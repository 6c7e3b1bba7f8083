"""No attack: the clients that could be malicious behave."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from fedsieve.poisoning.attack import DataAttack, Knowledge
from fedsieve.registry import register


@register("attack", "none")
@dataclass(frozen=True)
class NoAttack(DataAttack):
    """No attack: every client is honest."""

    @property
    def knowledge(self) -> Knowledge:
        """Nothing."""
        return Knowledge.NOTHING

    def poison_labels(self, labels: Tensor, classes: int, rng: np.random.Generator) -> Tensor:  # noqa: ARG002
        """The labels as they are."""
        return labels.clone()
