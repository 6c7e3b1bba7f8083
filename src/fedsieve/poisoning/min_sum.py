"""Min-Sum.

Shejwalkar, Houmansadr, "Manipulating the Byzantine: optimizing model poisoning attacks and defenses
for federated learning", NDSS 2021, for a server whose rule is unknown. With mu the mean of the
honest messages x_i and p a direction, every malicious client sends

    mu + gamma p,   the largest gamma with
    sum_i ||mu + gamma p - x_i||^2 <= max_i sum_j ||x_i - x_j||^2.

The left side is h gamma^2 ||p||^2 + sum_i ||mu - x_i||^2, which gives gamma in closed form.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fedsieve.poisoning._shift import Shift
from fedsieve.poisoning.attack import squared_distances
from fedsieve.registry import register


@register("attack", "min-sum", paper='Shejwalkar, Houmansadr, "Manipulating the Byzantine", 2021')
@dataclass(frozen=True)
class MinSum(Shift):
    """Min-Sum: no farther from all honest messages together than the farthest of them is.

    Args:
        direction: ``std``, ``mean`` or ``sign``.
        partial: Let the malicious clients' own honest messages stand for those of the others.

    Raises:
        ValueError: No direction has that name.
    """

    def largest(self, X: Tensor, mu: Tensor, p: Tensor) -> float:
        """The squared distances add up to no more than those of the farthest honest message."""
        room = float(squared_distances(X).sum(dim=1).max() - (X - mu).square().sum())
        return float((max(room, 0.0) / (len(X) * (p @ p))) ** 0.5)
