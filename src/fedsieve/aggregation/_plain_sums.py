"""The sums of the compiled kernels in numpy, to the same bits, for where numba is not installed.

Each function does what the kernel of its name does, in the order that `_lanes` sets down. The Gram
takes some tens of times longer than compiled, or than by BLAS, whose order nobody promises.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedsieve.aggregation._lanes import FloatArray, add_dots, in_lanes, tiled


def squared_norms(X: NDArray[Any], start: int, stop: int) -> FloatArray:
    """Squared norms of the rows of columns start to stop."""
    squares = np.zeros(len(X))
    for columns in tiled(start, stop, len(X)):
        x = in_lanes(X[:, columns])
        add_dots(squares, x, x)
    return squares


def norms_and_dots(X: NDArray[Any], y: NDArray[Any], start: int, stop: int) -> FloatArray:
    """||x_i||^2 and <x_i, y> of every row, (m, 2), over columns start to stop."""
    sums = np.zeros((len(X), 2))
    for columns in tiled(start, stop, len(X)):
        x = in_lanes(X[:, columns])
        add_dots(sums[:, 0], x, x)
        add_dots(sums[:, 1], x, in_lanes(y[columns]))
    return sums


def squared_offsets(X: NDArray[Any], a: NDArray[Any], start: int, stop: int) -> FloatArray:
    """Squared distances of the rows to a, of columns start to stop."""
    squares = np.zeros(len(X))
    for columns in tiled(start, stop, len(X)):
        x = in_lanes(X[:, columns] - a[columns].astype(np.float64))
        add_dots(squares, x, x)
    return squares


def centred_gram(
    X: NDArray[Any], A: NDArray[Any], reference: int, scale: float, start: int, stop: int
) -> FloatArray:
    """Gram of (the rows of X, then A, minus row `reference`) / scale, columns start to stop."""
    n = len(X) + len(A)
    G = np.zeros((n, n))
    for columns in tiled(start, stop, n):
        block = np.concatenate([X[:, columns], A[:, columns]], dtype=np.float64)
        block -= block[reference].copy()
        if scale != 1:
            block /= scale
        x = in_lanes(block)
        for i in range(n):
            add_dots(G[i, : i + 1], x[: i + 1], x[i])
    upper = np.triu_indices(n, 1)
    G[upper] = G.T[upper]
    return G


def mixed_columns(
    M: FloatArray, s: FloatArray, X: NDArray[Any], start: int, out: NDArray[Any]
) -> None:
    """Fill `out` with s M X from column `start` on."""
    total = np.zeros(out.shape)
    for weights, row in zip(M.T, X[:, start : start + out.shape[1]], strict=True):
        total += weights[:, None] * row.astype(np.float64)
    with np.errstate(over="ignore"):
        out[:] = s * total


def summed_columns(
    w: NDArray[Any], X: NDArray[Any], out: NDArray[Any], start: int, stop: int
) -> None:
    """Fill columns start to stop of `out` with w^T X, added up in their type."""
    total = out[start:stop]
    total[:] = 0
    with np.errstate(over="ignore", invalid="ignore"):
        for weight, row in zip(w, X[:, start:stop], strict=True):
            total += weight * row
