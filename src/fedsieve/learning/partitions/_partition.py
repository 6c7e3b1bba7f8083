"""Divide a data set by the name of a partition, and count what each client got."""

from __future__ import annotations

import inspect

import numpy as np
from numpy.typing import ArrayLike

from fedsieve.learning.partitions._shares import Parts
from fedsieve.registry import component


def partition(
    name: str,
    labels: ArrayLike,
    n_clients: int,
    rng: np.random.Generator,
    *,
    owners: ArrayLike | None = None,
    alpha: float = 0.5,
    classes_per_client: int = 2,
    gamma: float = 0.5,
    sizes: str = "equal",
    size_alpha: float = 1.0,
    minimum: int = 1,
) -> Parts:
    """Divide the records among the clients.

    Args:
        name: A name of the family "partition": iid, dirichlet, shards, gamma, extreme, natural.
        labels: Labels (N,): classes, or the targets of a regression.
        n_clients: Number of clients, 1..N.
        rng: Source of every draw; the same state gives the same partition.
        owners: Natural owner of each record, (N,); natural only.
        alpha: Concentration per class, > 0; dirichlet only.
        classes_per_client: 1..number of classes; shards only.
        gamma: Share dealt at random, 0..1; gamma only.
        sizes: ``"equal"`` or ``"dirichlet"``; natural has its own.
        size_alpha: Concentration of Dirichlet sizes, > 0.
        minimum: Smallest number of records of a client, >= 1.

    Returns:
        Per client the sorted positions of its records, int64; disjoint, and together all of them.

    Raises:
        UnknownComponentError: No partition has this name.
        ValueError: A setting is impossible for these labels.

    Example:
        >>> parts = partition("extreme", [1, 0, 1, 0], 2, np.random.default_rng(7))
        >>> [part.tolist() for part in parts]
        [[1, 3], [0, 2]]
    """
    classes = np.asarray(labels)
    if classes.ndim != 1:
        raise ValueError(f"labels has shape {classes.shape}; allowed is one per record, (N,)")
    chosen = component("partition", name)
    if sizes != "equal" and "sizes" not in inspect.signature(chosen.factory).parameters:
        raise ValueError(f"sizes={sizes!r}: partition {name!r} has sizes of its own; leave it out")
    parts: Parts = chosen.build(
        labels=classes,
        n_clients=n_clients,
        rng=rng,
        owners=None if owners is None else np.asarray(owners),
        alpha=alpha,
        classes_per_client=classes_per_client,
        gamma=gamma,
        sizes=sizes,
        size_alpha=size_alpha,
        minimum=minimum,
    )
    return parts


def class_histogram(labels: ArrayLike, parts: Parts, classes: int) -> np.ndarray:
    """How many records of each class every client holds: the picture of a partition.

    Args:
        labels: Classes (N,), 0..classes-1.
        parts: Positions of the records of each client.
        classes: Number of classes; 0 (a regression) counts all of a client's records in one column.

    Returns:
        int64 (clients, max(classes, 1)).

    Example:
        >>> class_histogram([1, 0, 1, 0], (np.array([0, 1, 2]), np.array([3])), classes=2)
        array([[1, 2],
               [1, 0]])
    """
    if classes == 0:
        return np.array([[len(part)] for part in parts], dtype=np.int64)
    codes = np.asarray(labels)
    return np.stack([np.bincount(codes[part], minlength=classes) for part in parts])
