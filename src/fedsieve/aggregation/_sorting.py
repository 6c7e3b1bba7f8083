"""Separating the smallest and largest values of every coordinate by a sorting network.

Batcher's odd-even merge sort (Batcher, "Sorting networks and their applications", 1968) sorts n
numbers by a fixed sequence of compare-exchange steps. Applied to whole rows, a step is one
elementwise minimum and one maximum: no branch, no index, the same on every device.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

BLOCK = 1 << 19  # entries worked on at a time: 2 MiB of float32, inside the second-level cache
LARGEST_NETWORK = 64  # beyond, a comparison sort of each column needs fewer passes over the rows


@dataclass(frozen=True, eq=False)
class Separated:
    """A block of columns whose values are separated by rank.

    Attributes:
        columns: Which columns of the stack.
        values: (m, w), m >= n; what lies in rows ``kept`` are the middle values.
        kept: The n - 2f rows that hold, in any order, all but the f smallest and largest values.
    """

    columns: slice
    values: Tensor
    kept: list[int]


def separate(X: Tensor, f: int) -> Iterator[Separated]:
    """The stack's columns, block by block, with the f smallest and f largest values set apart.

    Args:
        X: Finite stack (n, k), left as it is.
        f: 2f < n.
    """
    n, k = X.shape
    width = max(BLOCK // n, 1) if X.device.type == "cpu" else k
    for start in range(0, k, width):
        columns = slice(start, min(start + width, k))
        if n > LARGEST_NETWORK:
            yield Separated(columns, _sorted(X[:, columns]), list(range(f, n - f)))
        else:
            values, at = _exchanged(X[:, columns], separating_network(n, f))
            yield Separated(columns, values, at[f : n - f])


@cache
def sorting_network(n: int) -> tuple[tuple[int, int], ...]:
    """Steps (i, j), i < j, that move the smaller value to i: Batcher's network for any n."""
    steps = []
    p = 1
    while p < n:
        q = p
        while q >= 1:
            for start in range(q % p, n - q, 2 * q):
                for i in range(start, min(start + q, n - q)):
                    if i // (2 * p) == (i + q) // (2 * p):
                        steps.append((i, i + q))
            q //= 2
        p *= 2
    return tuple(steps)


@cache
def separating_network(n: int, f: int) -> tuple[tuple[int, int], ...]:
    """The steps that matter when the order inside the lowest f, the middle, the top f does not.

    Going backwards, a step between two wires that what follows treats alike is superfluous; before
    a step that stays, its two wires are alike, and like no other.
    """
    alike = [0] * f + [1] * (n - 2 * f) + [2] * f
    fresh = 3
    steps = []
    for i, j in reversed(sorting_network(n)):
        if alike[i] != alike[j]:
            steps.append((i, j))
            alike[i] = alike[j] = fresh
            fresh += 1
    return tuple(reversed(steps))


def _exchanged(block: Tensor, steps: tuple[tuple[int, int], ...]) -> tuple[Tensor, list[int]]:
    """The block after all steps, and where each wire's row has come to lie."""
    n = len(block)
    values = block.new_empty(n + 1, block.shape[1])
    values[:n], values[n] = block, 0  # finite, because a weight of 0 will multiply it
    at, spare = list(range(n)), n
    # numpy's calls cost a third of torch's, and a network makes hundreds
    xp: Any = np if values.device.type == "cpu" else torch
    row = list(values.numpy() if xp is np else values)
    for i, j in steps:
        low, high = row[at[i]], row[at[j]]
        xp.minimum(low, high, out=row[spare])
        xp.maximum(low, high, out=high)
        at[i], spare = spare, at[i]
    return values, at


def ranked(block: Tensor) -> Tensor:
    """Row numbers that sort every column, (n, w) int64; equal values in any order."""
    if block.device.type == "cpu":  # numpy's sort is vectorised, torch's is not
        return torch.from_numpy(np.argsort(block.numpy(), axis=0))
    return block.argsort(dim=0)


def _sorted(block: Tensor) -> Tensor:
    if block.device.type == "cpu":
        return torch.from_numpy(np.sort(block.numpy(), axis=0))
    return block.sort(dim=0).values
