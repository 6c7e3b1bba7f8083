"""Targeted label flip.

Tolpegin, Truex, Gursoy, Liu, "Data poisoning attacks against federated learning systems", ESORICS
2020. The records of one class are labelled as another,

    source -> target.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedsieve._arguments import integer, real
from fedsieve.poisoning.attack import DataAttack, Knowledge
from fedsieve.poisoning.label_flip import chosen, require_classes
from fedsieve.registry import register


@register("attack", "label-flip-targeted", paper="Tolpegin et al., ESORICS 2020")
@dataclass(frozen=True)
class TargetedLabelFlip(DataAttack):
    """Targeted label flip: malicious clients learn one class where they should learn another.

    Args:
        source: Class whose records are poisoned, >= 0.
        target: The label that they get, >= 0, another class.
        strength: Share of these records that is poisoned, 0 <= strength <= 1; ``None``: all.

    Raises:
        ValueError: ``strength`` lies outside [0, 1], or the classes are negative or equal.

    Example:
        >>> attack = TargetedLabelFlip(source=2, target=7)
        >>> attack.poison_labels(torch.tensor([2, 7, 5]), 10, np.random.default_rng(0))
        tensor([7, 7, 5])
    """

    source: int = 0
    target: int = 1
    strength: float | None = None

    def __post_init__(self) -> None:
        real(self, "strength", least=0, most=1, none="for 1")
        integer(self, "source")
        integer(self, "target")
        if self.source == self.target:
            raise ValueError(
                f"source={self.source} and target={self.target} must be two classes >= 0"
            )

    @property
    def knowledge(self) -> Knowledge:
        """Nothing."""
        return Knowledge.NOTHING

    def poison_labels(self, labels: Tensor, classes: int, rng: np.random.Generator) -> Tensor:
        """The labels, those of the source class changed.

        Raises:
            ValueError: Source or target is not a class of the data.
        """
        require_classes(classes, "label-flip-targeted")
        if max(self.source, self.target) >= classes:
            raise ValueError(
                f"source={self.source} and target={self.target} must lie in 0..{classes - 1}"
            )
        poisoned = (labels == self.source) & chosen(labels, self.strength, rng)
        return torch.where(poisoned, self.target, labels)
