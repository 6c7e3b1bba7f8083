"""Who comes first where several are equal up to rounding: they share the place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedsieve.aggregation._door import FloatArray

NEAR_TIE = 1e-12  # relative difference below which two distances are equal
ROUNDING = 1e-12  # of a sum of masses; times a far row, it would be far, too


def first_mass(order: NDArray[np.intp], mass: FloatArray, amount: float) -> FloatArray:
    """How much of each one's mass is taken until, in this order, the amount is reached.

    Args:
        order: Who comes first, (..., n).
        mass: Everybody's mass, (n,) or (..., n), >= 0.
        amount: What to take in all; the last one taken is taken in part.

    Returns:
        (..., n), not ordered.
    """
    ordered = np.take_along_axis(np.broadcast_to(mass, order.shape), order, axis=-1)
    reached = np.cumsum(ordered, axis=-1)
    reached = np.where(reached < amount * (1 - ROUNDING), reached, amount)
    taken = np.zeros(order.shape)
    np.put_along_axis(taken, order, np.diff(reached, axis=-1, prepend=0.0), axis=-1)
    return taken


def least(values: FloatArray, mass: FloatArray, amount: float) -> FloatArray:
    """How much of each one's mass is taken until, least values first, the amount is reached.

    Those of equal values share what is taken of them, so that neither their order nor rounding
    decides.

    Args:
        values: Who comes first, (..., n), >= 0.
        mass: Everybody's mass, (n,), >= 0.
        amount: What to take in all.

    Returns:
        (..., n), not ordered.
    """
    rank = ranks(values)
    taken = first_mass(np.argsort(rank, axis=-1, kind="stable"), mass, amount)
    n = values.shape[-1]
    if (rank.max(axis=-1) == n - 1).all():  # no two are equal
        return taken
    group = rank + np.arange(0, values.size, n).reshape(*values.shape[:-1], 1)
    held = np.bincount(group.ravel(), np.broadcast_to(mass, values.shape).ravel())
    part = np.bincount(group.ravel(), taken.ravel()) / np.maximum(held, np.finfo(float).tiny)
    return np.asarray(mass * part[group])


def ranks(values: FloatArray) -> NDArray[np.intp]:
    """0 for the least of values (..., n), >= 0, and so on; one for all equal up to rounding."""
    order = np.argsort(values, axis=-1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=-1)
    with np.errstate(invalid="ignore"):  # several infinite ones are equal
        apart = np.diff(ordered, axis=-1) > NEAR_TIE * ordered[..., :-1]
    rank = np.zeros_like(order)
    np.put_along_axis(rank, order[..., 1:], np.cumsum(apart, axis=-1), axis=-1)
    return rank
