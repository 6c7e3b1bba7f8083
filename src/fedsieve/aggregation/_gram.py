"""Rules that see inner products only: one product of the stack, then algebra of size n.

With rows x_i and any reference a, the Gram G_ij = <x_i - a, x_j - a> holds all distances, and the
aggregate is ``w^T X`` with weights w = weights(G) that sum to 1, whatever k is.

A rule that refers to a point besides the messages (the origin, a centre, a trusted gradient) gets
it as a further row A of the Gram *before* centring. Clipping x_i to a norm, for instance, is
``s x_i + (1 - s) 0`` with the origin as a further row: weights sum to 1 again, and the aggregate is
``w^T [X; A]``.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedsieve.aggregation._compiled import PRODUCTS, Function, summing_kernel
from fedsieve.aggregation._compiled_gram import centred_gram, norms_and_dots
from fedsieve.aggregation._door import (
    GROSS,
    ClientWeights,
    FloatArray,
    Rows,
    normalised,
    numbers,
)
from fedsieve.aggregation._mixing import summed_columns
from fedsieve.aggregation._sorting import blocks
from fedsieve.aggregation._threads import added, in_threads, summed
from fedsieve.aggregation._ties import least
from fedsieve.aggregation.facts import Facts
from fedsieve.aggregation.rule import Rule, largest_share

LARGEST_WEIGHT = 1e30  # beyond it and its inverse float32 may not hold what a weight leaves
LOST = 1e-8  # squared distances smaller than another by this lose half of their digits next to it
SAME = 1e-14  # of the squared lengths: a squared distance below this is rounding
BLOCK = 1 << 18  # entries upcast to float64 at a time: 2 MiB, inside the second-level cache
DEVICE_BLOCK = 1 << 24  # on a device: few launches, 128 MiB beside the stack
ROUGH = 1e-4  # of the largest entry: what rounding may leave of a Gram that others computed
PADDING = 16  # columns; rows a power of two apart would compete for the same cache lines


@dataclass(frozen=True, eq=False)
class Products:
    """Inner products of the usable messages and of further points.

    Attributes:
        G: Inner products (m + a, m + a), centred by any common vector: m messages, then a points.
        points: The number a of further points.
        removed: How many unusable messages, all of them Byzantine, there were besides.
        share: The clients' shares, (m,) summing to 1; ``None`` if all count the same.
        scale: What every length was divided by.
    """

    G: FloatArray
    points: int = 0
    removed: int = 0
    share: FloatArray | None = None
    scale: float = 1.0

    @property
    def m(self) -> int:
        """Number of messages."""
        return len(self.G) - self.points


def gram(rows: Rows, points: Tensor | None = None, *, about_point: bool = False) -> FloatArray:
    """Gram of rows, then points, over scale^2, float64.

    Args:
        rows: The messages.
        points: What they are compared with besides, (a, k).
        about_point: Whether to centre by the first point, so that all that lies near it has all of
            its digits, however many other rows are however far. Otherwise the row of median norm is
            the centre. With an honest majority it is no longer than some honest row and no shorter
            than another, so that no row can spend the others' digits by its length. A Byzantine
            row of that very norm might by its direction, if the honest ones lie close together far
            from the origin: if a majority lies closer together than it lies to the centre by
            `LOST`, a row amidst it becomes the centre. (Blocks of columns may differ in theirs.)
    """
    X = rows.data
    A = X[:0] if points is None else points
    if about_point:
        return np.roll(_centred(A, X, 0, rows.scale), -len(A), axis=(0, 1))
    G = _centred(X, A, rows.reference, rows.scale)
    amidst = _amidst(G[: len(X), : len(X)])
    return G if amidst is None else _centred(X, A, amidst, rows.scale)


def _amidst(G: FloatArray) -> int | None:
    """A row whose majority of nearest rows the centre is too far from to tell their distances."""
    m = len(G)
    half, squares = m // 2, np.sort(np.diagonal(G))
    if not (squares[half:] <= squares[: m - half] * (1 + 10 * LOST**0.5)).any():
        return None  # no majority is about equally far from the centre
    reach = np.partition(squared_distances(G), half, axis=1)[:, half]
    nearest = int(reach.argmin())
    return nearest if reach[nearest] < LOST * G[nearest, nearest] else None


def _centred(X: Tensor, A: Tensor, reference: int, scale: float) -> FloatArray:
    """Gram of (the rows of X, then A, minus row `reference` of X) / scale."""
    if X.device.type != "cpu":
        return _on_device(X, A, reference, scale)
    n = len(X) + len(A)
    kernel = summing_kernel(centred_gram, X.numel() + A.numel(), n / PRODUCTS)
    if kernel is None:
        return _by_blas(X.numpy(), A.numpy(), reference, scale)
    first, then = X.contiguous().numpy(), A.contiguous().numpy()

    def work(start: int, stop: int) -> FloatArray:
        return np.asarray(kernel(first, then, reference, scale, start, stop))

    return summed(work, X.shape[1], n)


def _by_blas(X: NDArray[Any], A: NDArray[Any], reference: int, scale: float) -> FloatArray:
    """The same block by block, by the threads of numpy's BLAS alone."""
    (m, k), n = X.shape, len(X) + len(A)
    width = max(BLOCK // n, 1)
    space = np.empty((n, width + PADDING))
    G = np.zeros((n, n))
    for start in range(0, k, width):
        block = space[:, : min(width, k - start)]
        block[:m] = X[:, start : start + width]
        block[m:] = A[:, start : start + width]
        block -= block[reference].copy()
        if scale != 1:
            block /= scale
        G += block @ block.T  # numpy sees this form and computes one triangle only
    return G


def _on_device(X: Tensor, A: Tensor, reference: int, scale: float) -> FloatArray:
    """The same in torch; a device keeps its data to itself."""
    (_, k), n = X.shape, len(X) + len(A)
    width = max(DEVICE_BLOCK // n, 1)
    G = X.new_zeros((n, n), dtype=torch.float64)
    for start in range(0, k, width):
        columns = slice(start, start + width)
        block = torch.cat([X[:, columns].double(), A[:, columns].double()])
        block -= block[reference].clone()
        if scale != 1:
            block /= scale
        G += block @ block.T
    return G.cpu().numpy()


def spokes(X: Tensor, y: Tensor, scale: float) -> FloatArray:
    """||x_i||^2 and <x_i, y> of every row, (m, 2), over scale^2, added up in float64."""
    n, k = X.shape
    if X.device.type != "cpu":
        return added(
            _spokes(X[:, columns].double() / scale, y[columns].double() / scale).cpu().numpy()
            for columns in blocks(0, k, n, on_cpu=False)
        )
    kernel = summing_kernel(norms_and_dots, X.numel()) if scale == 1 else None
    rows, other = (X if kernel is None else X.contiguous()).numpy(), y.contiguous().numpy()

    def work(start: int, stop: int) -> FloatArray:
        if kernel is not None:
            return np.asarray(kernel(rows, other, start, stop))
        parts = (
            (rows[:, columns].astype(np.float64) / scale, other[columns].astype(np.float64) / scale)
            for columns in blocks(start, stop, n)
        )
        # no BLAS: it would call its own threads for each block
        return added(
            np.stack([np.einsum("ij,ij->i", x, x), np.einsum("ij,j->i", x, z)], axis=1)
            for x, z in parts
        )

    return summed(work, k, n)


def _spokes(X: Tensor, y: Tensor) -> Tensor:
    return torch.stack([X.square().sum(dim=1), X @ y], dim=1)


def squared_distances(G: FloatArray) -> FloatArray:
    """D_ij = G_ii + G_jj - 2 G_ij, (n, n), never negative, exactly 0 between equal rows.

    Equal rows become common by mixing; what rounding leaves of their distance must not decide.
    """
    norms = np.diagonal(G)
    lengths = norms[:, None] + norms
    D: FloatArray = lengths - 2 * G
    D[SAME * lengths >= D] = 0
    np.fill_diagonal(D, 0)
    return D


def summed_distances(G: FloatArray, p: FloatArray) -> FloatArray:
    """sum_j p_j ||x_i - x_j|| less what it is for the centre of G, (n,), for shares p.

    Term by term, ||x_i - x_j|| - ||x_j|| = (||x_i||^2 - 2 <x_i, x_j>) / (||x_i - x_j|| + ||x_j||):
    a row far away would otherwise drown what the sums of the others differ in.
    """
    squares = np.maximum(np.diagonal(G), 0)
    far = np.sqrt(squared_distances(G)) + np.sqrt(squares)
    excess = np.divide(squares[:, None] - 2 * G, far, out=np.zeros_like(G), where=far > 0)
    return np.asarray(excess @ p)


def squared_distances_to(G: FloatArray, w: FloatArray) -> FloatArray:
    """Squared distance of every row to the weighted mean ``w^T X``, sum w = 1: (n,), never < 0."""
    Gw = G @ w
    return np.asarray(np.maximum(w @ Gw - 2 * Gw + np.diagonal(G), 0))


def weighted_sum(w: FloatArray, rows: Tensor) -> Tensor:
    """``w^T X`` in the rows' dtype and on their device."""
    sizes = np.abs(w[w != 0])
    if rows.dtype == torch.float64 or (
        sizes.max(initial=1) <= LARGEST_WEIGHT and sizes.min(initial=1) >= 1 / LARGEST_WEIGHT
    ):
        entries = rows.numel() if rows.device.type == "cpu" and w.ndim == 1 else 0
        kernel = summing_kernel(summed_columns, entries)
        if kernel is None:
            return torch.from_numpy(w).to(rows) @ rows
        return _in_own_threads(kernel, w, rows.contiguous())
    wide, out = torch.from_numpy(w).to(rows.device), rows.new_empty(*w.shape[:-1], rows.shape[1])
    for columns in blocks(0, rows.shape[1], len(rows), on_cpu=rows.device.type == "cpu"):
        out[..., columns] = wide @ rows[:, columns].double()
    return out


def _in_own_threads(kernel: Function, w: FloatArray, rows: Tensor) -> Tensor:
    """``w^T X`` without torch's threads, which would keep the next ones waiting: see `_threads`."""
    X = rows.numpy()
    out, w = np.empty(X.shape[1], X.dtype), w.astype(X.dtype)
    in_threads(lambda start, stop: kernel(w, X, out, start, stop), X.shape[1], len(X))
    return torch.from_numpy(out)


def placed(w: FloatArray, X: Tensor, A: Tensor) -> Tensor:
    """``w^T [X; A]``."""
    m = len(X)
    total = weighted_sum(w[:m], X)
    return total.add_(weighted_sum(w[m:], A)) if w[m:].any() else total


@dataclass(frozen=True)
class GramRule(Rule):
    """A rule whose aggregate is ``w^T X`` with weights that depend on the messages' Gram only.

    The Gram may be centred by any common vector, so such a rule moves with the messages.
    """

    reads_gram: ClassVar[bool] = True

    def weights(
        self, gram: Tensor | NDArray[np.floating], client_weights: ClientWeights | None = None
    ) -> Tensor:
        """The weight of each client in the aggregate, from inner products alone.

        Args:
            gram: Inner products of the messages, (n, n) and finite, centred by any common vector.
            client_weights: Public weights of the clients, (n,), finite and >= 0; a client of weight
                0 is absent.

        Returns:
            (n,) float64 on the CPU, summing to 1.

        Raises:
            ValueError: Wrong shape, a value that is not finite, no symmetric matrix or a negative
                squared length (beyond rounding), or an illegal (n, f).
        """
        G = numbers(gram, "gram's numbers")
        n = len(G) if G.ndim else 0
        if n == 0 or G.shape != (n, n) or not np.isfinite(G).all():
            raise ValueError(f"gram of shape {G.shape} must be a finite, non-empty (n, n) matrix")
        _check_products(G)
        self.check(n)
        self._check_weights(client_weights)
        told = np.zeros(n)
        share = None if client_weights is None else normalised(client_weights, n)
        heard = np.arange(n) if share is None else np.flatnonzero(share)
        self._check_heard(len(heard), n)
        if len(heard) < n:
            G = G[np.ix_(heard, heard)]
        peak = float(np.abs(G).max())
        scale = peak**0.5 if peak > GROSS**2 else 1.0  # sums of such products would overflow
        rule, share = self._at(scale), None if share is None else share[heard]
        told[heard] = rule._solve(G / scale**2 if scale > 1 else G, 0, share)
        return torch.from_numpy(told)

    def _at(self, scale: float) -> GramRule:  # noqa: ARG002
        """The rule for messages whose lengths were divided by a scale."""
        return self

    @abstractmethod
    def _solve(self, G: FloatArray, removed: int, share: FloatArray | None) -> FloatArray:
        """Weights, summing to 1, of the rows that are left after so many were removed."""

    def _combine(self, rows: Rows, *, explain: bool) -> tuple[Tensor, FloatArray | None]:  # noqa: ARG002
        m = len(rows.data)
        G = gram(rows) if self.reads_gram else np.zeros((m, m))
        w = self._at(rows.scale)._solve(G, rows.removed, rows.share)
        return weighted_sum(w, rows.data), w


@dataclass(frozen=True)
class PointRule(Rule):
    """A rule whose aggregate is ``w^T [X; A]``, with weights that depend on the Gram of both.

    It refers to points A besides the messages, so it does not move with the messages alone.
    """

    lacks: ClassVar[Facts] = Facts.TRANSLATES
    about_point: ClassVar[bool] = False  # whether the first point is the centre of the Gram

    @abstractmethod
    def _points(self, rows: Rows) -> Tensor:
        """The points A, (a, k), of the rows' dtype and on their device."""

    def _look(self, rows: Rows, A: Tensor) -> FloatArray:
        """The Gram of messages and points, or as much of it as is read; it adds up over columns."""
        return gram(rows, A, about_point=self.about_point)

    @abstractmethod
    def _place(self, seen: Products) -> FloatArray:
        """Weights of the messages and of the points, (m + a,), summing to 1.

        What the origin weighs changes nothing and need not be told.
        """

    def _combine(self, rows: Rows, *, explain: bool) -> tuple[Tensor, FloatArray | None]:  # noqa: ARG002
        A = self._points(rows)
        G = self._look(rows, A)
        w = self._place(Products(G, len(A), rows.removed, rows.share, rows.scale))
        return placed(w, rows.data, A), w[: len(rows.data)]


def _check_products(G: FloatArray) -> None:
    """Refuse what cannot be inner products, in whatever precision they were computed."""
    rounding = ROUGH * np.abs(G).max()
    apart = np.abs(G - G.T)
    if apart.max() > rounding:
        i, j = np.unravel_index(apart.argmax(), G.shape)
        raise ValueError(
            f"gram[{i}, {j}]={G[i, j]:g} and gram[{j}, {i}]={G[j, i]:g} must be equal: "
            "inner products are symmetric"
        )
    i = np.diagonal(G).argmin()
    if G[i, i] < -rounding:
        raise ValueError(f"gram[{i}, {i}]={G[i, i]:g} must be >= 0: it is a squared length")


def origin(rows: Rows) -> Tensor:
    """The point 0, (1, k)."""
    X = rows.data
    if X.device.type != "cpu":
        return X.new_zeros(1, X.shape[1])
    return torch.from_numpy(np.zeros((1, X.shape[1]), X.numpy().dtype))  # see `_threads`


def nearest_mean(seen: Products, f: int) -> FloatArray:
    """Weights (m,) of the mean of the n - f messages nearest to the only further point.

    With shares, the farthest messages lose the most weight that f clients can hold. Messages that
    are equally far, as clipped ones are from the origin, share what is kept of them.
    """
    m, f = seen.m, f - seen.removed
    distances = squared_distances(seen.G)[m, :m]
    p = np.full(m, 1 / m) if seen.share is None else seen.share
    taken = least(distances, p, 1 - largest_share(seen.share, m, f))
    return np.asarray(taken / taken.sum())
