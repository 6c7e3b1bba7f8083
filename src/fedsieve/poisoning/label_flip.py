"""Label flip.

Fang, Cao, Jia, Gong, "Local model poisoning attacks to Byzantine-robust federated learning",
USENIX Security 2020, and Yin et al., ICML 2018. Of C classes,

    y <- (C - 1) - y.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedsieve._arguments import real
from fedsieve.poisoning.attack import DataAttack, Knowledge
from fedsieve.registry import register


@register(
    "attack",
    "label-flip",
    paper='Fang et al., "Local model poisoning attacks", USENIX Security 2020',
)
@dataclass(frozen=True)
class LabelFlip(DataAttack):
    """Label flip: malicious clients learn class C-1-y where they should learn y.

    With an odd number of classes the middle one keeps its label.

    Args:
        strength: Share of their records that is flipped, 0 <= strength <= 1; ``None``: all.

    Raises:
        ValueError: ``strength`` lies outside [0, 1].

    Example:
        >>> LabelFlip().poison_labels(torch.tensor([0, 1, 9]), 10, np.random.default_rng(0))
        tensor([9, 8, 0])
    """

    strength: float | None = None

    def __post_init__(self) -> None:
        real(self, "strength", least=0, most=1, none="for 1")

    @property
    def knowledge(self) -> Knowledge:
        """Nothing."""
        return Knowledge.NOTHING

    def poison_labels(self, labels: Tensor, classes: int, rng: np.random.Generator) -> Tensor:
        """The flipped labels.

        Raises:
            ValueError: There are no two classes to exchange.
        """
        require_classes(classes, "label-flip")
        return torch.where(chosen(labels, self.strength, rng), classes - 1 - labels, labels)


def require_classes(classes: int, attack: str) -> None:
    """Refuse data without two classes to exchange."""
    if classes < 2:
        raise ValueError(f"classes={classes}: {attack} needs at least 2 classes")


def chosen(labels: Tensor, strength: float | None, rng: np.random.Generator) -> Tensor:
    """Which records are poisoned: all, or each with probability ``strength``."""
    if strength is None:
        return torch.ones_like(labels, dtype=torch.bool)
    return torch.from_numpy(rng.random(tuple(labels.shape)) < strength).to(labels.device)
