"""Extreme heterogeneity: all records sorted by label and cut into one run per client."""

from __future__ import annotations

import numpy as np

from fedsieve.learning.partitions._shares import Parts, Sizes
from fedsieve.learning.partitions.gamma import gamma_similarity
from fedsieve.registry import register


@register("partition", "extreme")
def extreme(
    labels: np.ndarray,
    n_clients: int,
    rng: np.random.Generator,
    *,
    sizes: Sizes = "equal",
    size_alpha: float = 1.0,
    minimum: int = 1,
) -> Parts:
    """Every client holds one run of the records sorted by label: one class, or the next few.

    With as many clients as balanced classes, or a multiple, each client has a single class.

    Args:
        labels: Labels (N,), classes or the targets of a regression.
        n_clients: Number of clients, 1..N; the first ones get the smallest labels.
        rng: Decides among the records of a class.
        sizes: ``"equal"`` or ``"dirichlet"``.
        size_alpha: Concentration of Dirichlet sizes, > 0.
        minimum: Smallest number of records of a client, >= 1.

    Raises:
        ValueError: A setting is impossible.
    """
    return gamma_similarity(
        labels,
        n_clients,
        rng,
        gamma=0.0,
        sizes=sizes,
        size_alpha=size_alpha,
        minimum=minimum,
    )
