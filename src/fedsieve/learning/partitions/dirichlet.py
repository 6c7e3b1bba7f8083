"""Dirichlet label skew: every client has its own mix of the classes.

Hsu, Qi, Brown, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual
Classification", arXiv:1909.06335:

    q_i ~ Dir(alpha * C * p)        mix of client i, p the classes' shares of all records, C classes

so each of C balanced classes has concentration alpha (their paper's alpha is ours times C). Client
i then takes its s_i records according to q_i. Classes run out; the paper lets the clients choose
one after another, which leaves odd remains to the last. Here all choose at once, and a class that
is wanted more often than it occurs is shared in proportion to the wishes; what is then still
lacking is chosen again among the classes that remain. Few clients who must use up all records
cannot be as different as free draws: with 10 balanced classes the variance of a client's share of a
class is 0.65 (alpha = 0.1) to 0.9 (alpha = 5) of the Dirichlet's for 10 clients, 0.86 to 1.03 of it
for 100.

``sizes="by-class"`` is the other customary scheme (Yurochkin et al., "Bayesian Nonparametric
Federated Learning of Neural Networks", ICML 2019): each class is divided on its own by a draw from
Dir(alpha) over the clients, whose sizes come out as they may, and it is drawn again until each
client has the minimum.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from fedsieve.learning.partitions._shares import (
    Parts,
    apportion,
    check_clients,
    check_positive,
    class_codes,
    cut,
    dirichlet_rows,
    draw_sizes,
    sorted_parts,
)
from fedsieve.registry import register

_TRIES = 1_000


@register("partition", "dirichlet", paper="Hsu, Qi, Brown 2019")
def dirichlet(
    labels: np.ndarray,
    n_clients: int,
    rng: np.random.Generator,
    *,
    alpha: float = 0.5,
    sizes: Literal["equal", "dirichlet", "by-class"] = "equal",
    size_alpha: float = 1.0,
    minimum: int = 1,
) -> Parts:
    """Every client's mix of the classes is drawn from a Dirichlet distribution.

    Args:
        labels: Classes (N,), integers.
        n_clients: Number of clients, 1..N.
        rng: Source of every draw.
        alpha: Concentration per class, > 0: small is skewed, large is iid.
        sizes: ``"equal"``, ``"dirichlet"``, or ``"by-class"``: as the classes' division gives them.
        size_alpha: Concentration of Dirichlet sizes, > 0.
        minimum: Smallest number of records of a client, >= 1.

    Raises:
        ValueError: A setting is impossible, or no draw in 1,000 gives each client the minimum.
    """
    check_positive("alpha", alpha)
    codes, counts = class_codes(labels, "dirichlet")
    if sizes == "by-class":
        check_clients(len(labels), n_clients, minimum)
        table = _divide_each_class(counts, n_clients, alpha, minimum, rng)
    else:
        drawn = draw_sizes(len(labels), n_clients, rng, sizes, size_alpha, minimum)
        q = dirichlet_rows(alpha * counts * len(counts) / len(labels), n_clients, rng)
        table = _fill(q, drawn, counts)
    return deal(codes, table, rng)


def deal(codes: np.ndarray, table: np.ndarray, rng: np.random.Generator) -> Parts:
    """Random records such that client i has ``table[i, c]`` of class c; columns sum to counts."""
    shuffled = rng.permutation(len(codes))
    by_class = cut(shuffled[np.argsort(codes[shuffled], kind="stable")], table.sum(0))
    pieces = [cut(records, table[:, c]) for c, records in enumerate(by_class)]
    return sorted_parts(zip(*pieces, strict=True))


def _fill(q: np.ndarray, sizes: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Whole numbers (n, C) near ``sizes[i] * q[i]`` with row sums ``sizes``, column sums counts."""
    target = sizes[:, None] * q
    table = np.zeros(q.shape, dtype=np.int64)
    need, supply = sizes.copy(), counts.copy()
    while need.any():
        left = supply > 0
        lack = np.maximum(target - table, 0.0) * left
        # What a client needs beyond its lacks, because classes ran out, it takes by its mix of the
        # classes that are left; a client who has none of these in its mix takes what there is.
        mix = np.where((q * left).any(1, keepdims=True), q * left, supply)
        beyond = np.maximum(need - lack.sum(1), 0.0)[:, None]
        wish = lack + beyond * mix / mix.sum(1, keepdims=True)
        wish *= (need / np.maximum(wish.sum(1), 1e-300))[:, None]
        share = wish * np.minimum(1.0, supply / np.maximum(wish.sum(0), 1e-300))
        give = np.floor(share).astype(np.int64)
        if not give.any():
            for client in np.flatnonzero(need):  # less than one each: one record, in turn
                free = supply - give.sum(0) > 0
                give[client, np.argmax(np.where(free, wish[client], -1.0))] = 1
        table += give
        need -= give.sum(1)
        supply -= give.sum(0)
    return table


def _divide_each_class(
    counts: np.ndarray, n: int, alpha: float, minimum: int, rng: np.random.Generator
) -> np.ndarray:
    for _ in range(_TRIES):
        shares = dirichlet_rows(np.full(n, alpha), len(counts), rng)
        table = np.stack([apportion(c, row) for c, row in zip(counts, shares, strict=True)], 1)
        if table.sum(1).min() >= minimum:
            return table
    raise ValueError(
        f"alpha={alpha} with sizes='by-class': no draw in {_TRIES} gives each of {n} clients "
        f"minimum={minimum} records; take a larger alpha, fewer clients or sizes='equal'"
    )
