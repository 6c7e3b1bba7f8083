"""Squared norms and the Gram as compiled loops, for where numba is installed (extra ``fast``).

Columns are taken in tiles: a tile is copied to float64 and centred in the cache, then multiplied by
itself four rows by four, so that the sixteen sums stay in registers. Below some hundred rows this
beats BLAS, which was made for larger matrices; it needs no second copy of the columns and no
threads of its own. While it multiplies, the memory brings the next tile. Sums are added in the
order of `_lanes`, as `_plain_sums` adds them without numba.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedsieve.aggregation._compiled import Arrays, compilable
from fedsieve.aggregation._lanes import (
    REGISTERS,
    TILE,
    FloatArray,
    add_diagonal,
    add_fan,
    add_grid,
)
from fedsieve.aggregation._prefetch import LINE, prefetch

AHEAD = 2 * TILE  # columns; asking for what lies beyond the last one does no harm


def _one_sum(X: NDArray[Any], *_: Any) -> Arrays:
    return np.zeros((REGISTERS, TILE)), np.zeros(len(X) + REGISTERS)


def _two_sums(X: NDArray[Any], *_: Any) -> Arrays:
    m = len(X)
    tile, wide = np.zeros((REGISTERS, TILE)), np.zeros((1, TILE))
    return tile, wide, np.zeros(m + REGISTERS), np.zeros(m + REGISTERS), np.empty((m, 2))


def _blocks(X: NDArray[Any], A: NDArray[Any], *_: Any) -> Arrays:
    n = len(X) + len(A)
    blocks = -(-n // REGISTERS)
    tile = np.zeros((blocks * REGISTERS, TILE))
    return tile, np.zeros(blocks * (blocks + 1) // 2 * REGISTERS * REGISTERS), np.empty((n, n))


@compilable(_one_sum)
def squared_norms(
    X: NDArray[Any], start: int, stop: int, tile: FloatArray, squares: FloatArray
) -> FloatArray:
    """Squared norms of the rows of columns start to stop."""
    n = len(X)
    for i in range(0, n, REGISTERS):
        for left in range(start, stop, TILE):
            width = min(TILE, stop - left)
            for r in range(min(REGISTERS, n - i)):
                row, target = X[i + r], tile[r]
                for c in range(0, TILE, LINE // X.itemsize):
                    prefetch(row, left + AHEAD + c)
                source = row[left : left + width]
                for c in range(width):
                    target[c] = source[c]
                for c in range(width, TILE):
                    target[c] = 0
            add_diagonal(tile, 0, tile, 0, squares, i)
    return squares[:n]


@compilable(_two_sums)
def norms_and_dots(
    X: NDArray[Any],
    y: NDArray[Any],
    start: int,
    stop: int,
    tile: FloatArray,
    wide: FloatArray,
    squares: FloatArray,
    dots: FloatArray,
    sums: FloatArray,
) -> FloatArray:
    """||x_i||^2 and <x_i, y> of every row, (m, 2), over columns start to stop."""
    m = len(X)
    for i in range(0, m, REGISTERS):
        for left in range(start, stop, TILE):
            width = min(TILE, stop - left)
            source, target = y[left : left + width], wide[0]
            for c in range(width):
                target[c] = source[c]
            for c in range(width, TILE):
                target[c] = 0
            for r in range(min(REGISTERS, m - i)):
                row, target = X[i + r], tile[r]
                for c in range(0, TILE, LINE // X.itemsize):
                    prefetch(row, left + AHEAD + c)
                source = row[left : left + width]
                for c in range(width):
                    target[c] = source[c]
                for c in range(width, TILE):
                    target[c] = 0
            add_diagonal(tile, 0, tile, 0, squares, i)
            add_fan(tile, 0, wide, 0, dots, i)
    for i in range(m):
        sums[i, 0], sums[i, 1] = squares[i], dots[i]
    return sums


@compilable(_one_sum)
def squared_offsets(
    X: NDArray[Any],
    a: NDArray[Any],
    start: int,
    stop: int,
    tile: FloatArray,
    squares: FloatArray,
) -> FloatArray:
    """Squared distances of the rows to a, of columns start to stop."""
    n = len(X)
    for i in range(0, n, REGISTERS):
        for left in range(start, stop, TILE):
            width = min(TILE, stop - left)
            centre = a[left : left + width]
            for r in range(min(REGISTERS, n - i)):
                row, target = X[i + r], tile[r]
                for c in range(0, TILE, LINE // X.itemsize):
                    prefetch(row, left + AHEAD + c)
                source = row[left : left + width]
                for c in range(width):
                    target[c] = np.float64(source[c]) - np.float64(centre[c])
                for c in range(width, TILE):
                    target[c] = 0
            add_diagonal(tile, 0, tile, 0, squares, i)
    return squares[:n]


@compilable(_blocks)
def centred_gram(
    X: NDArray[Any],
    A: NDArray[Any],
    reference: int,
    scale: float,
    start: int,
    stop: int,
    tile: FloatArray,
    sums: FloatArray,
    G: FloatArray,
) -> FloatArray:
    """Gram of (the rows of X, then A, minus row `reference`) / scale, columns start to stop."""
    (m, k), n = X.shape, len(X) + len(A)
    flat = X.reshape(-1)
    blocks = (n + REGISTERS - 1) // REGISTERS
    line = LINE // X.itemsize  # columns
    pace = 2 * m * TILE // line // (blocks * (blocks + 1)) + 1  # lines asked for per block
    for left in range(start, stop, TILE):
        width = min(TILE, stop - left)
        centre = X[reference, left : left + width]
        for i in range(n):
            source = X[i, left : left + width] if i < m else A[i - m, left : left + width]
            target = tile[i]
            for c in range(width):
                target[c] = np.float64(source[c]) - np.float64(centre[c])
            for c in range(width, TILE):
                target[c] = 0
            if scale != 1:
                for c in range(TILE):
                    target[c] /= scale
        ahead = left + TILE
        row, column = 0 if ahead + TILE <= stop else m, 0  # what is asked for next
        at = 0
        for i in range(0, n, REGISTERS):
            for j in range(0, i + 1, REGISTERS):
                for _ in range(pace if row < m else 0):
                    prefetch(flat, row * k + ahead + column)
                    column += line
                    if column >= TILE:
                        row, column = row + 1, 0
                add_grid(tile, i, tile, j, sums, at)
                at += REGISTERS * REGISTERS
    at = 0
    for i in range(0, n, REGISTERS):
        for j in range(0, i + 1, REGISTERS):
            for r in range(REGISTERS):
                for s in range(REGISTERS):
                    if i + r < n and j + s < n:
                        G[i + r, j + s] = G[j + s, i + r] = sums[at]
                    at += 1
    return G
