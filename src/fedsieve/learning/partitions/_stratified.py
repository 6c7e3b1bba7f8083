"""A few records of every class, for whoever needs a small picture of the whole."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fedsieve.learning.partitions._shares import apportion


def stratified(labels: ArrayLike, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw records without replacement, each class in proportion to its frequency.

    Args:
        labels: Labels (N,): classes, or the targets of a regression, which are one class.
        size: How many records to draw, 0..N.
        rng: Source of every draw.

    Returns:
        Their positions, ascending, int64 (size,).

    Raises:
        ValueError: There are fewer records.

    Example:
        >>> stratified([0, 0, 0, 0, 1, 1], 3, np.random.default_rng(0))
        array([2, 3, 5])
    """
    y = np.asarray(labels)
    if not 0 <= size <= len(y):
        raise ValueError(f"size={size} of {len(y)} records; allowed are 0..{len(y)}")
    if size == 0:
        return np.empty(0, dtype=np.int64)
    if not np.issubdtype(y.dtype, np.integer):
        y = np.zeros(len(y), dtype=np.int64)
    classes, counts = np.unique(y, return_counts=True)
    drawn = [
        rng.choice(np.flatnonzero(y == one), share, replace=False)
        for one, share in zip(classes, apportion(size, counts), strict=True)
    ]
    return np.sort(np.concatenate(drawn)).astype(np.int64)
