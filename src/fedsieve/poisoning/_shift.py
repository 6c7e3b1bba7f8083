"""What Min-Max and Min-Sum share: the honest mean, shifted as far as honest distances allow.

Both of Shejwalkar and Houmansadr, "Manipulating the Byzantine", NDSS 2021: with mu the mean of the
honest messages x_i and p a direction (`fedsieve.poisoning._directions`), every malicious client
sends mu + gamma p. They differ in the gamma that they allow. The paper bisects it; both conditions
are quadratic in gamma, so the largest one is known in closed form.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import get_args

from torch import Tensor

from fedsieve._arguments import choice, flag
from fedsieve.poisoning._directions import Direction, perturbation
from fedsieve.poisoning.attack import Knowledge, MessageAttack, Scene


@dataclass(frozen=True)
class Shift(MessageAttack):
    """The message mu + gamma p.

    Args:
        direction: ``std``, ``mean`` or ``sign``.
        partial: Let the malicious clients' own honest messages stand for those of the others.

    Raises:
        ValueError: No direction has that name.
    """

    direction: Direction = "std"
    partial: bool = False

    def __post_init__(self) -> None:
        choice(self, "direction", get_args(Direction))
        flag(self, "partial")

    @property
    def uses_own(self) -> bool:
        """In the partial form."""
        return self.partial

    @property
    def knowledge(self) -> Knowledge:
        """Honest messages; nothing in the partial form."""
        return Knowledge.NOTHING if self.partial else Knowledge.UPDATES

    def craft(self, scene: Scene) -> Tensor:
        """The message mu + gamma p; mu where the honest messages say nothing or are all alike."""
        X = scene.seen(partial=self.partial)
        mu, p = X.mean(dim=0), perturbation(self.direction, X)
        wide = p.double()
        gamma = self.largest(X.double(), mu.double(), wide) if wide @ wide > 0 else 0.0
        return scene.rows(mu + gamma * p)

    @abstractmethod
    def largest(self, X: Tensor, mu: Tensor, p: Tensor) -> float:
        """The largest gamma that is allowed, for messages X (h, k), their mean and p != 0."""
