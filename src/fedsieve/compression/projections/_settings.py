"""What the projections' settings k and refresh may be, and what they are when left open."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fedsieve.learning.layout import Layout

TENTH = 10
"""Where k is left open, a message has about d / TENTH numbers."""


def check_settings(k: int | None, refresh: int) -> None:
    """Refuse what no model allows.

    Raises:
        ValueError: k < 1 or refresh < 0.
    """
    if k is not None and k < 1:
        raise ValueError(f"projection.k={k} must be >= 1")
    if refresh < 0:
        raise ValueError(f"projection.refresh={refresh} must be >= 0; 0 keeps one plan for ever")


def check_size(k: int, smallest: int, d: int, why: str) -> None:
    """Refuse a k that this model does not allow.

    Raises:
        ValueError: k outside smallest..d, with the reason for the lower end.
    """
    if not smallest <= k <= d:
        nearest = smallest if k < smallest else d
        raise ValueError(
            f"projection.k={k} is not in {smallest}..{d} ({why}); the nearest is k={nearest}"
        )


def generator(seed: int, round_: int, refresh: int) -> np.random.Generator:
    """The public draw of the plan that covers this round."""
    block = round_ // refresh if refresh else 0
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(block,)))


def largest(fits: Callable[[int], bool], most: int) -> int:
    """The largest r in 1..most with fits(r), which holds for 1 and then up to some r."""
    low, high = 1, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def common_rank(layout: Layout, k: int | None) -> int:
    """The rank r such that every slot's matrix keeps min(r, inputs) input directions.

    A slot with at most r inputs (a bias, a small layer) is kept whole. The largest r whose message
    has at most k numbers is taken; without k, at most a tenth of d.

    Raises:
        ValueError: k is below the message of r = 1 or above d.
    """

    def width(rank: int) -> int:
        return sum(s.matrix[0] * min(rank, s.matrix[1]) for s in layout.slots)

    smallest = width(1)
    wanted = max(layout.d // TENTH, smallest) if k is None else k
    check_size(wanted, smallest, layout.d, "one input direction for every layer at least")
    most = max((s.matrix[1] for s in layout.slots), default=1)
    return largest(lambda rank: width(rank) <= wanted, most)
