"""What the partitions share: checks, whole-number shares, and how many records a client gets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np

Parts = tuple[np.ndarray, ...]
"""Per client the sorted positions of its records, int64; disjoint, and together all of them."""

Sizes = Literal["equal", "dirichlet"]


def apportion(total: int, weights: np.ndarray) -> np.ndarray:
    """Whole shares of ``total`` in proportion to ``weights``, by largest remainders.

    Args:
        total: Number of records to divide, >= 0.
        weights: Non-negative numbers (n,), not all zero.

    Returns:
        int64 (n,) with sum ``total``; each differs from its exact share by less than one, and equal
        fractions are settled in favour of the first.

    Example:
        >>> apportion(10, np.array([1.0, 1.0, 2.0]))
        array([3, 2, 5])
    """
    exact = total * (weights / weights.sum())
    shares: np.ndarray = np.floor(exact).astype(np.int64)
    # Rounding of the division by one part in 2^53 must not decide between equal fractions.
    fractions = np.round(exact - shares, 9)
    largest_first = np.argsort(-fractions, kind="stable")
    shares[largest_first[: total - int(shares.sum())]] += 1
    return shares


def draw_sizes(
    n_records: int,
    n_clients: int,
    rng: np.random.Generator,
    sizes: Sizes,
    size_alpha: float,
    minimum: int,
) -> np.ndarray:
    """Number of records of every client, int64 (n_clients,), each at least ``minimum``.

    Args:
        n_records: Number of records to divide.
        n_clients: Number of clients.
        rng: Draws the Dirichlet shares; untouched for equal sizes.
        sizes: ``"equal"`` (they differ by at most one) or ``"dirichlet"``.
        size_alpha: Concentration of the Dirichlet sizes, > 0: small is uneven.
        minimum: Smallest number of records of a client, >= 1.

    Raises:
        ValueError: A setting is impossible.
    """
    check_clients(n_records, n_clients, minimum)
    if sizes == "equal":
        return apportion(n_records, np.ones(n_clients))
    if sizes != "dirichlet":
        raise ValueError(f"sizes={sizes!r} is not one of 'equal', 'dirichlet'")
    check_positive("size_alpha", size_alpha)
    spare = n_records - n_clients * minimum
    return minimum + apportion(spare, dirichlet_rows(np.full(n_clients, size_alpha), 1, rng)[0])


def dirichlet_rows(alpha: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """``n`` draws from Dir(alpha), (n, len(alpha)); one-hot where the floats underflow."""
    rows = rng.dirichlet(alpha, size=n)
    lost = ~(np.abs(rows.sum(1) - 1.0) < 1e-6)
    rows[lost] = np.eye(len(alpha))[rng.integers(len(alpha), size=int(lost.sum()))]
    return rows


def check_clients(n_records: int, n_clients: int, minimum: int) -> None:
    """Refuse numbers of clients and records that do not go together."""
    if n_clients < 1:
        raise ValueError(f"n_clients={n_clients} must be >= 1")
    if minimum < 1:
        raise ValueError(f"minimum={minimum} must be >= 1: a client without records is none")
    if n_clients * minimum > n_records:
        raise ValueError(
            f"n_clients={n_clients} with minimum={minimum} need {n_clients * minimum} records, "
            f"there are {n_records}; largest legal n_clients is {n_records // minimum}"
        )


def check_positive(name: str, value: float) -> None:
    """Refuse anything but a finite number > 0."""
    if not (np.isfinite(value) and value > 0):
        raise ValueError(f"{name}={value} must be a finite number > 0")


def class_codes(labels: np.ndarray, partition: str) -> tuple[np.ndarray, np.ndarray]:
    """Class of every record as 0..C-1, and the number of records of each class that occurs.

    Raises:
        ValueError: The labels are the targets of a regression.
    """
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"partition {partition!r} divides classes, the labels are {labels.dtype} targets of a "
            "regression; allowed are iid, natural, and gamma or extreme, which sort by the target"
        )
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return codes, counts


def cut(records: np.ndarray, sizes: np.ndarray) -> list[np.ndarray]:
    """Consecutive pieces of these sizes."""
    return np.split(records, np.cumsum(sizes)[:-1])


def sorted_parts(pieces: Iterable[Iterable[np.ndarray]]) -> Parts:
    """Each client's pieces joined, in ascending order."""
    return tuple(np.sort(np.concatenate(list(piece))).astype(np.int64) for piece in pieces)
