"""Shards: every client holds records of a fixed number of classes.

McMahan, Moore, Ramage, Hampson, Aguera y Arcas, "Communication-Efficient Learning of Deep Networks
from Decentralized Data", AISTATS 2017, section 3: the pathological non-iid partition. There the
sorted records are cut into n * c equal shards, c of which go to each client; a shard that reaches
across two classes gives its client one class too many. Here the shards are cut inside the classes,
each class into a number near its share of n * c, so that every client has exactly c classes.
"""

from __future__ import annotations

import numpy as np

from fedsieve.learning.partitions._shares import (
    Parts,
    Sizes,
    apportion,
    class_codes,
    draw_sizes,
)
from fedsieve.learning.partitions.dirichlet import deal
from fedsieve.registry import register


@register("partition", "shards", paper="McMahan et al., AISTATS 2017")
def shards(
    labels: np.ndarray,
    n_clients: int,
    rng: np.random.Generator,
    *,
    classes_per_client: int = 2,
    sizes: Sizes = "equal",
    size_alpha: float = 1.0,
    minimum: int = 1,
) -> Parts:
    """Every client holds records of exactly the same number of classes.

    Args:
        labels: Classes (N,), integers.
        n_clients: Number of clients, 1..N.
        rng: Decides who gets which classes, and which of their records.
        classes_per_client: Number of classes c of each client, 1..C, with n * c >= C so that no
            class is left over.
        sizes: Weights by which the holders of a class divide it: ``"equal"`` or ``"dirichlet"``.
            The sizes of the clients follow; they are equal for balanced classes where n * c is a
            multiple of C.
        size_alpha: Concentration of the Dirichlet weights, > 0.
        minimum: Smallest number of records of a client, >= 1; each of its classes has one at least.

    Raises:
        ValueError: A setting is impossible.
    """
    codes, counts = class_codes(labels, "shards")
    c, n_classes = classes_per_client, len(counts)
    if not 1 <= c <= n_classes:
        raise ValueError(
            f"classes_per_client={c} must lie in 1..{n_classes}, the classes there are"
        )
    if n_clients * c < n_classes:
        raise ValueError(
            f"classes_per_client={c} for n_clients={n_clients} leaves "
            f"{n_classes - n_clients * c} of {n_classes} classes without a client; "
            f"smallest legal classes_per_client is {-(-n_classes // n_clients)}"
        )
    weights = draw_sizes(len(labels), n_clients, rng, sizes, size_alpha, minimum)
    holders = _choose_classes(_shards_per_class(counts, n_clients, c), n_clients, c, rng)
    table = np.zeros((n_clients, n_classes), dtype=np.int64)
    for label, count in enumerate(counts):
        mine = np.flatnonzero(holders[:, label])
        if count < len(mine):
            raise ValueError(
                f"classes_per_client={c} for n_clients={n_clients} cuts a class of {count} "
                f"records into {len(mine)} shards; lower one of them"
            )
        table[mine, label] = 1 + apportion(count - len(mine), weights[mine].astype(np.float64))
    if (smallest := int(table.sum(1).min())) < minimum:
        raise ValueError(
            f"minimum={minimum}: a client would have {smallest} records, the largest legal value"
        )
    return deal(codes, table, rng)


def _shards_per_class(counts: np.ndarray, n: int, c: int) -> np.ndarray:
    """How many of the n * c shards each class is cut into: near its share, and in 1..n."""
    per_class = 1 + apportion(n * c - len(counts), counts.astype(np.float64))
    while (excess := int(np.maximum(per_class - n, 0).sum())) > 0:
        per_class = np.minimum(per_class, n)
        room = per_class < n
        per_class[room] += apportion(excess, counts[room].astype(np.float64))
    return per_class


def _choose_classes(per_class: np.ndarray, n: int, c: int, rng: np.random.Generator) -> np.ndarray:
    """Who holds what, bool (n, C): rows sum to c, columns to ``per_class``.

    Each client takes the c classes with most shards left, ties at random. By Gale and Ryser that
    never ends in a deadlock, as no class has more shards left than there are clients to come.
    """
    holders = np.zeros((n, len(per_class)), dtype=bool)
    left = per_class.copy()
    for client in rng.permutation(n):
        order = rng.permutation(len(left))
        chosen = order[np.argsort(-left[order], kind="stable")[:c]]
        holders[client, chosen] = True
        left[chosen] -= 1
    return holders
