"""Independent and identically distributed: every client holds a random sample of all records."""

from __future__ import annotations

import numpy as np

from fedsieve.learning.partitions._shares import Parts, Sizes, cut, draw_sizes, sorted_parts
from fedsieve.registry import register


@register("partition", "iid")
def iid(
    labels: np.ndarray,
    n_clients: int,
    rng: np.random.Generator,
    *,
    sizes: Sizes = "equal",
    size_alpha: float = 1.0,
    minimum: int = 1,
) -> Parts:
    """Every client holds a random sample of all records.

    Args:
        labels: Labels (N,); only their number counts.
        n_clients: Number of clients, 1..N.
        rng: Source of the shuffle.
        sizes: ``"equal"`` or ``"dirichlet"`` (quantity skew).
        size_alpha: Concentration of Dirichlet sizes, > 0.
        minimum: Smallest number of records of a client, >= 1.

    Raises:
        ValueError: A setting is impossible.
    """
    drawn = draw_sizes(len(labels), n_clients, rng, sizes, size_alpha, minimum)
    return sorted_parts([piece] for piece in cut(rng.permutation(len(labels)), drawn))
