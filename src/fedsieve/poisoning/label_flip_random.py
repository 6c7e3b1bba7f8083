"""Random labels.

Each poisoned record gets one of the other C - 1 classes, all equally likely: folklore, the
untargeted variant of the label flip in surveys of poisoning.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedsieve._arguments import real
from fedsieve.poisoning.attack import DataAttack, Knowledge
from fedsieve.poisoning.label_flip import chosen, require_classes
from fedsieve.registry import register


@register("attack", "label-flip-random", paper="folklore")
@dataclass(frozen=True)
class RandomLabels(DataAttack):
    """Random label flip: malicious clients learn a class drawn from the wrong ones.

    Args:
        strength: Share of their records that is poisoned, 0 <= strength <= 1; ``None``: all.

    Raises:
        ValueError: ``strength`` lies outside [0, 1].
    """

    strength: float | None = None

    def __post_init__(self) -> None:
        real(self, "strength", least=0, most=1, none="for 1")

    @property
    def knowledge(self) -> Knowledge:
        """Nothing."""
        return Knowledge.NOTHING

    def poison_labels(self, labels: Tensor, classes: int, rng: np.random.Generator) -> Tensor:
        """Wrong labels.

        Raises:
            ValueError: There are no two classes to exchange.
        """
        require_classes(classes, "label-flip-random")
        shift = torch.from_numpy(rng.integers(1, classes, size=tuple(labels.shape)))
        wrong = (labels + shift.to(labels)) % classes
        return torch.where(chosen(labels, self.strength, rng), wrong, labels)
