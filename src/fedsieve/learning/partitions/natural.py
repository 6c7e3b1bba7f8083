"""Natural: whoever produced the records is the client, as LEAF's speakers and writers are.

Caldas et al., "LEAF: A Benchmark for Federated Settings", arXiv:1812.01097.
"""

from __future__ import annotations

import numpy as np

from fedsieve.learning.partitions._shares import Parts, check_clients, sorted_parts
from fedsieve.registry import register


@register("partition", "natural", paper="Caldas et al. 2018")
def natural(
    labels: np.ndarray,
    n_clients: int,
    rng: np.random.Generator,
    *,
    owners: np.ndarray | None = None,
    minimum: int = 1,
) -> Parts:
    """Every client is one natural owner of records, or a group of owners where there are more.

    Args:
        labels: Labels (N,); only their number counts.
        n_clients: Number of clients, 1..number of owners. With as many owners, client i is the
            i-th of them; with more, they are shuffled and dealt in turn, and no owner is divided.
        rng: Source of the shuffle; untouched if there is none.
        owners: Owner of each record, integers (N,).
        minimum: Smallest number of records of a client, >= 1.

    Raises:
        ValueError: The set has no owners, too few of them, or a client gets too few records.
    """
    if owners is None:
        raise ValueError("partition 'natural' needs owners, and this data set has none")
    if len(owners) != len(labels):
        raise ValueError(f"owners has {len(owners)} entries for {len(labels)} records")
    check_clients(len(labels), n_clients, minimum)
    _, codes, counts = np.unique(owners, return_inverse=True, return_counts=True)
    if n_clients > len(counts):
        raise ValueError(
            f"n_clients={n_clients} is more than the {len(counts)} natural owners, "
            "who are not divided; take that many clients or fewer"
        )
    by_owner = np.split(np.argsort(codes, kind="stable"), np.cumsum(counts)[:-1])
    order = np.arange(len(counts)) if n_clients == len(counts) else rng.permutation(len(counts))
    parts = sorted_parts(
        [by_owner[owner] for owner in order[client::n_clients]] for client in range(n_clients)
    )
    if (smallest := min(map(len, parts))) < minimum:
        raise ValueError(
            f"minimum={minimum}: a client would have {smallest} records, the largest legal value"
        )
    return parts
