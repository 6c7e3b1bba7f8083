"""Min-Max.

Shejwalkar, Houmansadr, "Manipulating the Byzantine: optimizing model poisoning attacks and defenses
for federated learning", NDSS 2021, for a server whose rule is unknown. With mu the mean of the
honest messages x_i and p a direction (`fedsieve.poisoning._directions`), every malicious client
sends

    mu + gamma p,   the largest gamma with  max_i ||mu + gamma p - x_i|| <= max_{i,j} ||x_i - x_j||.

The paper bisects gamma. Each distance is a quadratic in it, so the largest one is known in closed
form: with a_i = ||mu - x_i||^2, b_i = <p, mu - x_i>, D the largest distance between honest
messages,

    gamma = min_i (-b_i + sqrt(b_i^2 + ||p||^2 (D^2 - a_i))) / ||p||^2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedsieve.poisoning._directions import Direction, check_direction, perturbation
from fedsieve.poisoning.attack import Knowledge, MessageAttack, Scene, squared_distances
from fedsieve.registry import register


@register("attack", "min-max", paper='Shejwalkar, Houmansadr, "Manipulating the Byzantine", 2021')
@dataclass(frozen=True)
class MinMax(MessageAttack):
    """Min-Max: as far from the honest mean as no farther than the honest ones from each other.

    Args:
        direction: ``std``, ``mean`` or ``sign``.
        partial: Let the malicious clients' own honest messages stand for those of the others.

    Raises:
        ValueError: No direction has that name.
    """

    direction: Direction = "std"
    partial: bool = False

    def __post_init__(self) -> None:
        check_direction(self.direction)

    @property
    def uses_own(self) -> bool:
        """In the partial form."""
        return self.partial

    @property
    def knowledge(self) -> Knowledge:
        """Honest messages; nothing in the partial form."""
        return Knowledge.NOTHING if self.partial else Knowledge.UPDATES

    def craft(self, scene: Scene) -> Tensor:
        """The message mu + gamma p."""
        X = scene.seen(partial=self.partial)
        mu, p = X.mean(dim=0), perturbation(self.direction, X)
        away, wide = (mu - X).double(), p.double()
        a, b, pp = away.square().sum(dim=1), away @ wide, wide @ wide
        if pp == 0:  # the honest messages say nothing, or are all alike
            return scene.rows(mu)
        room = (squared_distances(X).max() - a).clamp(min=0)  # rounding apart, mu is admissible
        gamma = ((torch.sqrt(b * b + pp * room) - b) / pp).min()
        return scene.rows(mu + float(gamma) * p)
