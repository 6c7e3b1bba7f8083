"""Min-Sum.

Shejwalkar, Houmansadr, "Manipulating the Byzantine: optimizing model poisoning attacks and defenses
for federated learning", NDSS 2021, for a server whose rule is unknown. With mu the mean of the
honest messages x_i and p a direction (`fedsieve.poisoning._directions`), every malicious client
sends

    mu + gamma p,   the largest gamma with
    sum_i ||mu + gamma p - x_i||^2 <= max_i sum_j ||x_i - x_j||^2.

The left side is h gamma^2 ||p||^2 + sum_i ||mu - x_i||^2, which gives gamma in closed form where
the paper bisects.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fedsieve.poisoning._directions import Direction, check_direction, perturbation
from fedsieve.poisoning.attack import Knowledge, MessageAttack, Scene, squared_distances
from fedsieve.registry import register


@register("attack", "min-sum", paper='Shejwalkar, Houmansadr, "Manipulating the Byzantine", 2021')
@dataclass(frozen=True)
class MinSum(MessageAttack):
    """Min-Sum: no farther from all honest messages together than the farthest of them is.

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
        pp = float(p.double().square().sum())
        if pp == 0:  # the honest messages say nothing, or are all alike
            return scene.rows(mu)
        room = float(squared_distances(X).sum(dim=1).max() - (X - mu).double().square().sum())
        return scene.rows(mu + (max(room, 0.0) / (len(X) * pp)) ** 0.5 * p)
