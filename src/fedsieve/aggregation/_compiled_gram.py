"""Squared norms and the Gram as compiled loops, for where numba is installed (extra ``fast``).

Columns are taken in tiles: a tile is copied to float64 and centred in the cache, then multiplied by
itself four rows by four, so that the sixteen sums stay in registers. Below some hundred rows this
beats BLAS, which was made for larger matrices; it needs no second copy of the columns and no
threads of its own. While it multiplies, the memory brings the next tile. Sums are added in the
compiler's order: the last bits are not those of BLAS.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedsieve.aggregation._prefetch import LINE, prefetch

TILE = 256  # columns; constant, so that the compiler knows the trip count
REGISTERS = 4  # rows and columns of a block of the product


def squared_norms(X: NDArray[Any], start: int, stop: int) -> NDArray[np.float64]:
    """Squared norms of the rows of columns start to stop."""
    squares = np.zeros(len(X))
    for i in range(len(X)):
        row, total = X[i, start:stop], 0.0
        for c in range(len(row)):
            total += np.float64(row[c]) * np.float64(row[c])
        squares[i] = total
    return squares


def norms_and_dots(X: NDArray[Any], y: NDArray[Any], start: int, stop: int) -> NDArray[np.float64]:
    """||x_i||^2 and <x_i, y> of every row, (m, 2), over columns start to stop."""
    m = len(X)
    sums = np.zeros((m + REGISTERS - 1, 2))  # the last row may be taken several times
    wide = np.zeros(TILE)
    for left in range(start, stop, TILE):
        width = min(TILE, stop - left)
        part, z = y[left : left + width], wide[:width]
        for c in range(width):
            z[c] = np.float64(part[c])
        for i in range(0, m, REGISTERS):  # eight sums at a time; one would wait for itself
            r0, r1 = X[i, left : left + width], X[min(i + 1, m - 1), left : left + width]
            r2 = X[min(i + 2, m - 1), left : left + width]
            r3 = X[min(i + 3, m - 1), left : left + width]
            s0 = s1 = s2 = s3 = d0 = d1 = d2 = d3 = 0.0
            for c in range(width):
                x0, x1 = np.float64(r0[c]), np.float64(r1[c])
                x2, x3 = np.float64(r2[c]), np.float64(r3[c])
                s0, d0 = s0 + x0 * x0, d0 + x0 * z[c]
                s1, d1 = s1 + x1 * x1, d1 + x1 * z[c]
                s2, d2 = s2 + x2 * x2, d2 + x2 * z[c]
                s3, d3 = s3 + x3 * x3, d3 + x3 * z[c]
            found = ((s0, d0), (s1, d1), (s2, d2), (s3, d3))
            for r in range(REGISTERS):
                sums[i + r, 0] += found[r][0]
                sums[i + r, 1] += found[r][1]
    return sums[:m]


def squared_offsets(X: NDArray[Any], a: NDArray[Any], start: int, stop: int) -> NDArray[np.float64]:
    """Squared distances of the rows to a, of columns start to stop."""
    squares = np.zeros(len(X))
    centre = a[start:stop]
    for i in range(len(X)):
        row, total = X[i, start:stop], 0.0
        for c in range(len(row)):
            offset = np.float64(row[c]) - np.float64(centre[c])
            total += offset * offset
        squares[i] = total
    return squares


def centred_gram(
    X: NDArray[Any], A: NDArray[Any], reference: int, scale: float, start: int, stop: int
) -> NDArray[np.float64]:
    """Gram of (the rows of X, then A, minus row `reference`) / scale, columns start to stop."""
    (m, k), n = X.shape, len(X) + len(A)
    flat = X.reshape(-1)
    padded = (n + REGISTERS - 1) // REGISTERS * REGISTERS
    tile = np.zeros((padded, TILE))
    G = np.zeros((padded, padded))
    blocks = padded // REGISTERS
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
        for i in range(0, n, REGISTERS):
            a0, a1, a2, a3 = tile[i], tile[i + 1], tile[i + 2], tile[i + 3]
            for j in range(0, i + 1, REGISTERS):
                b0, b1, b2, b3 = tile[j], tile[j + 1], tile[j + 2], tile[j + 3]
                for _ in range(pace if row < m else 0):
                    prefetch(flat, row * k + ahead + column)
                    column += line
                    if column >= TILE:
                        row, column = row + 1, 0
                s00 = s01 = s02 = s03 = s10 = s11 = s12 = s13 = 0.0
                s20 = s21 = s22 = s23 = s30 = s31 = s32 = s33 = 0.0
                for c in range(TILE):
                    s00 += a0[c] * b0[c]
                    s01 += a0[c] * b1[c]
                    s02 += a0[c] * b2[c]
                    s03 += a0[c] * b3[c]
                    s10 += a1[c] * b0[c]
                    s11 += a1[c] * b1[c]
                    s12 += a1[c] * b2[c]
                    s13 += a1[c] * b3[c]
                    s20 += a2[c] * b0[c]
                    s21 += a2[c] * b1[c]
                    s22 += a2[c] * b2[c]
                    s23 += a2[c] * b3[c]
                    s30 += a3[c] * b0[c]
                    s31 += a3[c] * b1[c]
                    s32 += a3[c] * b2[c]
                    s33 += a3[c] * b3[c]
                rows = (
                    (s00, s01, s02, s03),
                    (s10, s11, s12, s13),
                    (s20, s21, s22, s23),
                    (s30, s31, s32, s33),
                )
                for r in range(REGISTERS):
                    for s in range(REGISTERS):
                        G[i + r, j + s] += rows[r][s]
    for i in range(n):
        for j in range(i):
            G[j, i] = G[i, j]
    return G[:n, :n]
