"""Gamma-similarity: a share of the records is dealt at random, the rest is sorted by label.

Karimireddy, Kale, Mohri, Reddi, Stich, Suresh, "SCAFFOLD: Stochastic Controlled Averaging for
Federated Learning", ICML 2020, section 7 (there s % similarity). gamma = 1 is iid, gamma = 0 gives
each client one run of the sorted records.
"""

from __future__ import annotations

import numpy as np

from fedsieve.learning.partitions._shares import (
    Parts,
    Sizes,
    apportion,
    cut,
    draw_sizes,
    sorted_parts,
)
from fedsieve.registry import register


@register("partition", "gamma", paper="Karimireddy et al., ICML 2020")
def gamma_similarity(
    labels: np.ndarray,
    n_clients: int,
    rng: np.random.Generator,
    *,
    gamma: float = 0.5,
    sizes: Sizes = "equal",
    size_alpha: float = 1.0,
    minimum: int = 1,
) -> Parts:
    """A share gamma of every client's records is a random sample, the rest sorted by label.

    Args:
        labels: Labels (N,), classes or the targets of a regression.
        n_clients: Number of clients, 1..N; the first ones get the smallest labels.
        rng: Source of the shuffle.
        gamma: Share of the records that is dealt at random, 0..1.
        sizes: ``"equal"`` or ``"dirichlet"``.
        size_alpha: Concentration of Dirichlet sizes, > 0.
        minimum: Smallest number of records of a client, >= 1.

    Raises:
        ValueError: A setting is impossible.
    """
    if not 0.0 <= gamma <= 1.0:
        raise ValueError(f"gamma={gamma} must lie in [0, 1]")
    total = draw_sizes(len(labels), n_clients, rng, sizes, size_alpha, minimum)
    shuffled = rng.permutation(len(labels))
    n_random = round(gamma * len(labels))
    random, rest = shuffled[:n_random], shuffled[n_random:]
    ordered = rest[np.argsort(labels[rest], kind="stable")]
    # Largest remainders never exceed ceil(gamma * size) <= size, so the rest is not negative.
    dealt = apportion(n_random, total.astype(np.float64))
    return sorted_parts(zip(cut(random, dealt), cut(ordered, total - dealt), strict=True))
