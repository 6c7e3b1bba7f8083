"""Means of the middle values of every coordinate, by a sorting network.

Batcher's odd-even merge sort (Batcher, "Sorting networks and their applications", 1968) sorts n
numbers by a fixed sequence of compare-exchange steps. Applied to whole rows, a step is one
elementwise minimum and one maximum: no branch, no index, the same on every device. The work runs
block by block through the cache: compiled where numba is installed (extra ``fast``), in numpy where
not, in torch on a device. All three give the same bits: they take the same minima, and add the kept
values in the same order in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedsieve.aggregation import _compiled
from fedsieve.aggregation._threads import in_threads

BLOCK = 1 << 19  # entries worked on at a time: 2 MiB of float32, inside the second-level cache
DEVICE_BLOCK = 1 << 26  # on a device: few launches, little memory beside the stack
LARGEST_NETWORK = 64  # beyond, numpy's comparison sort needs fewer passes over the rows
LARGEST_COMPILED = 2048  # beyond, a network's n log^2 n steps lose to a comparison sort

Steps = tuple[tuple[int, int], ...]


class Ranks(NamedTuple):
    """Which of n sorted values are averaged.

    Of the sorted values x_0 <= ... <= x_(n-1), those with f <= r < n - f are among the n - f
    nearest to the median. The others are the nearest of two sorted lists, below and above the
    median; their merger starts with the nearer of x_r and x_(r+n-f) for each r (the first step of a
    bitonic merge).

    Attributes:
        f: Leave out the f smallest and f largest, 2f < n; (n - 1) // 2 gives the median.
        nearest: Leave out the f < n values farthest from the median instead; of a tie the larger.
    """

    f: int
    nearest: bool = False


def mean_of(ranks: Ranks, X: Tensor) -> Tensor:
    """Per coordinate the mean of the values of some ranks.

    Args:
        ranks: Which values.
        X: Finite stack (n, k), left as it is.

    Returns:
        (k,) in the dtype and on the device of the stack; added up in float64.
    """
    kernel = _kernel(X)
    return _by_network(ranks, X) if kernel is None else _by_kernel(kernel, ranks, X)[0]


def mean_of_finite(ranks: Ranks, X: Tensor) -> Tensor | None:
    """`mean_of` a stack that need not be finite, in one reading of it where it is compiled.

    Returns:
        ``None`` if it is not finite, or on a device.
    """
    if X.device.type != "cpu":
        return None
    if (kernel := _kernel(X)) is None:
        return _by_network(ranks, X) if _finite(X) else None
    mean, finite = _by_kernel(kernel, ranks, X)
    return mean if finite else None


def sorted_blocks(X: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """The stack's columns, block by block, each sorted."""
    n, k = X.shape
    for columns in blocks(0, k, n, on_cpu=X.device.type == "cpu"):
        yield columns, torch.stack(_ranked(X[:, columns], sorting_network(n), n))


def blocks(start: int, stop: int, n: int, *, on_cpu: bool = True) -> Iterator[slice]:
    """Slices of columns that fit the cache together with n rows of them."""
    width = max((BLOCK if on_cpu else DEVICE_BLOCK) // n, 1)
    for left in range(start, stop, width):
        yield slice(left, min(left + width, stop))


@cache
def sorting_network(n: int) -> Steps:
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
def separating_network(n: int, f: int, *, ordered: bool = False) -> Steps:
    """The steps that matter when the order inside the lowest f and the top f does not.

    Nor does the order of the middle ones, unless ``ordered``.
    """
    middle = range(2, 2 + n - 2 * f) if ordered else [2] * (n - 2 * f)
    return _telling_apart([0] * f + list(middle) + [1] * f)


@cache
def nearest_network(n: int, f: int) -> Steps:
    """The steps that matter to the mean of the n - f values nearest to the median.

    Those of a pair are told apart, and the median from the others: these count all, or none does.
    """
    pairs = pairs_of(n, f)
    paired = {*pairs, *(r + n - f for r in pairs)}
    median = {(n - 1) // 2, n // 2}
    return _telling_apart([2 + r if r in paired else int(r in median) for r in range(n)])


def _telling_apart(alike: list[int]) -> Steps:
    """The steps of the sorting network that matter if wires with the same number are treated alike.

    Going backwards, a step between two wires that what follows treats alike is superfluous; before
    a step that stays, its two wires are alike, and like no other.
    """
    fresh = max(alike, default=0) + 1
    steps = []
    for i, j in reversed(sorting_network(len(alike))):
        if alike[i] != alike[j]:
            steps.append((i, j))
            alike[i] = alike[j] = fresh
            fresh += 1
    return tuple(reversed(steps))


def pairs_of(n: int, f: int) -> range:
    """The ranks r of which x_r or x_(r+n-f) is among the n - f nearest to the median."""
    return range(max(n // 2 - (n - f), 0), min(f, n // 2))


def _kernel(X: Tensor) -> _compiled.Kernel | None:
    if X.device.type != "cpu" or len(X) > LARGEST_COMPILED:
        return None
    return _compiled.kernel(_compiled.reduce_columns, X.numel())


def _by_network(ranks: Ranks, X: Tensor) -> Tensor:
    (n, k), (f, nearest) = X.shape, ranks
    out = X.new_empty(k)

    def work(start: int, stop: int) -> None:
        for columns in blocks(start, stop, n, on_cpu=on_cpu):
            out[columns] = _mean(_ranked(X[:, columns], _steps(n, f, nearest), n), f, nearest)

    if on_cpu := X.device.type == "cpu":
        in_threads(work, k, n)
    else:
        work(0, k)
    return out


def _finite(X: Tensor) -> bool:
    """Whether all values on the CPU are; their norms would tell at three times the cost."""
    n, k = X.shape
    return all(bool(np.isfinite(X[:, columns].numpy()).all()) for columns in blocks(0, k, n))


def _by_kernel(kernel: _compiled.Kernel, ranks: Ranks, X: Tensor) -> tuple[Tensor, bool]:
    """The mean, and whether all values are finite."""
    (n, k), (f, nearest) = X.shape, ranks
    out = X.new_empty(k)
    rows, steps, into = X.contiguous().numpy(), _array(n, f, nearest), out.numpy()
    finite: list[bool] = []

    def work(start: int, stop: int) -> None:
        finite.append(kernel(rows, steps, f, nearest, into, start, stop))

    in_threads(work, k, n)
    return out, all(finite)


def _steps(n: int, f: int, nearest: bool) -> Steps:
    """Beyond `LARGEST_NETWORK` the kept values come in order, as a comparison sort leaves them."""
    if nearest:
        return sorting_network(n) if n > LARGEST_NETWORK else nearest_network(n, f)
    return separating_network(n, f, ordered=n > LARGEST_NETWORK)


@cache
def _array(n: int, f: int, nearest: bool) -> NDArray[np.int64]:
    return np.array(_steps(n, f, nearest), np.int64).reshape(-1, 2)


def _ranked(block: Tensor, steps: Steps, n: int) -> list[Tensor]:
    """The rows after all steps; the block is left as it is."""
    if block.device.type != "cpu":
        return _by_values(block, steps) if n <= LARGEST_NETWORK else list(block.sort(dim=0).values)
    if n > LARGEST_NETWORK:
        return list(torch.from_numpy(np.sort(block.numpy(), axis=0)))
    # numpy's calls cost a third of torch's, and a network makes hundreds
    space = np.empty((n + 1, block.shape[1]), block.numpy().dtype)
    space[:n] = block.numpy()
    rows, spare = list(space[:n]), space[n]
    for i, j in steps:
        np.minimum(rows[i], rows[j], out=spare)
        np.maximum(rows[i], rows[j], out=rows[j])
        rows[i], spare = spare, rows[i]
    return [torch.from_numpy(row) for row in rows]


def _by_values(block: Tensor, steps: Steps) -> list[Tensor]:
    """The same without writing in place: a graph of elementwise operations, to be fused at will."""
    rows = list(block)
    for i, j in steps:
        rows[i], rows[j] = torch.minimum(rows[i], rows[j]), torch.maximum(rows[i], rows[j])
    return rows


def _mean(rows: list[Tensor], f: int, nearest: bool) -> Tensor:
    """The mean of the middle rows, or of the nearest; as the compiled kernel, line by line."""
    n = len(rows)
    share = 1 / (n - f if nearest else n - 2 * f)
    total: Any = 0.0  # a positive zero: the sign of a zero must not depend on the order of equals
    for row in rows[f : n - f]:
        total = total + row.double() * share
    if nearest:
        median = 0.5 * rows[(n - 1) // 2].double() + 0.5 * rows[n // 2].double()
        for r in pairs_of(n, f):
            low, high = rows[r].double(), rows[r + n - f].double()
            slack = _compiled.TIE * (low.abs() + high.abs())
            total = total + torch.where(median - low <= high - median + slack, low, high) * share
    return torch.as_tensor(total).to(rows[0].dtype)


def ranked(block: Tensor) -> Tensor:
    """Row numbers that sort every column, (n, w) int64; equal values in any order."""
    if block.device.type == "cpu":  # numpy's sort is vectorised, torch's is not
        return torch.from_numpy(np.argsort(block.numpy(), axis=0))
    return block.argsort(dim=0)
