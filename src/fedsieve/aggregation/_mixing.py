"""The rows of M X, a block of columns at a time: mixed, used, and forgotten.

What comes after a mixing and needs no more than a block of columns never sees a second stack. Where
numba is installed (extra ``fast``) a block is mixed tile by tile in the first-level cache, which
beats BLAS on so few rows; where not, numpy mixes it to the same bits. Small stacks are left to
BLAS. Sums are taken in float64 and rounded once: mixed rows are often equal, or equally far from
another, by what they are made of, and the order of a float32 sum would tell them apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, from_numpy

from fedsieve.aggregation._compiled import PRODUCTS, Arrays, compilable, summing_kernel
from fedsieve.aggregation._compiled_gram import squared_norms
from fedsieve.aggregation._door import FloatArray
from fedsieve.aggregation._lanes import REGISTERS, add_rows
from fedsieve.aggregation._sorting import blocks
from fedsieve.aggregation._threads import added, summed

TILE = 128  # columns, mixed in the first-level cache
STRETCH = 4096  # columns of one sum of rows, which stays in the first-level cache


def mixed_blocks(
    M: FloatArray, X: Tensor, start: int = 0, stop: int | None = None
) -> Iterator[tuple[slice, Tensor]]:
    """Columns start to stop of M X, block by block.

    Args:
        M: (r, n).
        X: (n, k), left as it is.
        start: The first column.
        stop: The column after the last; ``None``: k.

    Yields:
        The columns, and M X there, (r, w), which the next block overwrites.
    """
    (r, n), k = M.shape, X.shape[1]
    stop = k if stop is None else stop
    W, s = _summable(M)
    if X.device.type != "cpu":
        there, size = from_numpy(W).to(X.device), from_numpy(s).to(X.device)
        for columns in blocks(start, stop, r + n, on_cpu=False):
            yield columns, (size * (there @ X[:, columns].double())).to(X.dtype)
        return
    rows = X.numpy()
    factors = np.diagonal(M).astype(rows.dtype)[:, None]
    alone = r == n and np.count_nonzero(M - np.diag(np.diagonal(M))) == 0  # rows are scaled only
    passes = r / PRODUCTS * (stop - start) / k
    kernel = None if alone else summing_kernel(mixed_columns, X.numel(), passes)
    parts = list(blocks(start, stop, r + n))
    space = np.empty(r * (parts[0].stop - start), rows.dtype)
    for columns in parts:
        width = columns.stop - columns.start
        # contiguous even where it is the narrower last: another layout is another compilation
        block = space[: r * width].reshape(r, width)
        if alone:
            np.multiply(rows[:, columns], factors, out=block)
        elif kernel is None:
            block[:] = s * (W @ rows[:, columns].astype(np.float64))
        else:
            kernel(W, s, rows, columns.start, block)
        yield columns, from_numpy(block)


def mixed_rows(M: FloatArray, X: Tensor) -> Tensor:
    """M X, (r, k)."""
    out, X = X.new_empty(len(M), X.shape[1]), X.contiguous()
    for columns, block in mixed_blocks(M, X):
        out[:, columns] = block
    return out


def _summable(M: FloatArray) -> tuple[FloatArray, FloatArray]:
    """M = s W, s (r, 1), such that equal weights in a row of W are a power of two.

    Whole numbers are then added up exactly, and what cancels leaves nothing. No sum overflows.
    """
    peaks = np.abs(M).max(axis=1, keepdims=True)
    peaks[peaks == 0] = 1
    s = peaks * np.exp2(np.ceil(np.log2(np.maximum((np.abs(M) / peaks).sum(axis=1), 1))))[:, None]
    return M / s, s


def _a_tile(M: FloatArray, *_: Any) -> Arrays:
    r, n = M.shape
    W = np.zeros((r + REGISTERS, n))
    W[:r] = M
    return W, np.zeros((n, TILE)), np.zeros((REGISTERS, TILE))


@compilable(_a_tile)
def mixed_columns(
    M: FloatArray,
    s: FloatArray,
    X: NDArray[Any],
    start: int,
    out: NDArray[Any],
    W: FloatArray,
    tile: FloatArray,
    sums: FloatArray,
) -> None:
    """Fill `out` with s M X from column `start` on."""
    (r, n), width = M.shape, out.shape[1]
    for left in range(0, width, TILE):
        size = min(TILE, width - left)
        for j in range(n):  # through views: an index that might be negative costs the vector loop
            source, target = X[j, start + left : start + left + size], tile[j]
            for c in range(size):
                target[c] = source[c]
        for i in range(0, r, REGISTERS):
            add_rows(W, i, tile, sums)
            for row in range(i, min(i + REGISTERS, r)):
                source, target = sums[row - i], out[row, left : left + size]
                for c in range(size):
                    target[c] = s[row, 0] * source[c]


@compilable()
def summed_columns(
    w: NDArray[Any], X: NDArray[Any], out: NDArray[Any], start: int, stop: int
) -> None:
    """Fill columns start to stop of `out` with w^T X."""
    n = len(X)
    for left in range(start, stop, STRETCH):
        y = out[left : min(left + STRETCH, stop)]
        right = left + len(y)
        for c in range(len(y)):
            y[c] = 0
        for i in range(0, n - n % REGISTERS, REGISTERS):
            x0, x1 = X[i, left:right], X[i + 1, left:right]
            x2, x3 = X[i + 2, left:right], X[i + 3, left:right]
            w0, w1, w2, w3 = w[i], w[i + 1], w[i + 2], w[i + 3]
            for c in range(len(y)):
                y[c] = y[c] + w0 * x0[c] + w1 * x1[c] + w2 * x2[c] + w3 * x3[c]
        for i in range(n - n % REGISTERS, n):
            x, wi = X[i, left:right], w[i]
            for c in range(len(y)):
                y[c] += wi * x[c]


def squared_lengths(X: Tensor, scale: float = 1.0) -> FloatArray:
    """||x_i||^2 / scale^2 of every row, (m,), added up in float64."""
    n, k = X.shape
    if X.device.type != "cpu":
        parts = (X[:, columns].double() / scale for columns in blocks(0, k, n, on_cpu=False))
        return added(part.square_().sum(dim=1).cpu().numpy() for part in parts)
    kernel = summing_kernel(squared_norms, X.numel()) if scale == 1 else None
    rows = (X if kernel is None else X.contiguous()).numpy()

    def work(start: int, stop: int) -> FloatArray:
        if kernel is not None:
            return np.asarray(kernel(rows, start, stop))
        parts = (rows[:, columns].astype(np.float64) / scale for columns in blocks(start, stop, n))
        return added(np.einsum("ij,ij->i", part, part) for part in parts)

    return summed(work, k, n)
