"""Min-Max.

Shejwalkar, Houmansadr, "Manipulating the Byzantine: optimizing model poisoning attacks and defenses
for federated learning", NDSS 2021, for a server whose rule is unknown. With mu the mean of the
honest messages x_i and p a direction, every malicious client sends

    mu + gamma p,   the largest gamma with  max_i ||mu + gamma p - x_i|| <= max_{i,j} ||x_i - x_j||.

Each distance is a quadratic in gamma: with a_i = ||mu - x_i||^2, b_i = <p, mu - x_i>, D the largest
distance between honest messages,

    gamma = min_i (-b_i + sqrt(b_i^2 + ||p||^2 (D^2 - a_i))) / ||p||^2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedsieve.poisoning._shift import Shift
from fedsieve.poisoning.attack import squared_distances
from fedsieve.registry import register


@register("attack", "min-max", paper='Shejwalkar, Houmansadr, "Manipulating the Byzantine", 2021')
@dataclass(frozen=True)
class MinMax(Shift):
    """Min-Max: as far from the honest mean as no farther than the honest ones from each other.

    Args:
        direction: ``std``, ``mean`` or ``sign``.
        partial: Let the malicious clients' own honest messages stand for those of the others.

    Raises:
        ValueError: No direction has that name.
    """

    def largest(self, X: Tensor, mu: Tensor, p: Tensor) -> float:
        """No honest message is farther away than two of them are apart."""
        away = mu - X
        a, b, pp = away.square().sum(dim=1), away @ p, p @ p
        room = (squared_distances(X).max() - a).clamp(min=0)  # rounding apart, mu is admissible
        return float(((torch.sqrt(b * b + pp * room) - b) / pp).min())
