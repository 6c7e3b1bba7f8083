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

from fedsieve.aggregation._compiled import summing_kernel
from fedsieve.aggregation._compiled_gram import centred_gram
from fedsieve.aggregation._door import ClientWeights, FloatArray, Rows, normalised
from fedsieve.aggregation._threads import summed
from fedsieve.aggregation.facts import Facts
from fedsieve.aggregation.rule import Rule, largest_share

LARGEST_WEIGHT = 1e30  # beyond, as tiny messages may get that are brought to a length, use float64
NEAR_TIE = 1e-12  # relative difference below which two distances are equal
BLOCK = 1 << 18  # entries upcast to float64 at a time: 2 MiB, inside the second-level cache
DEVICE_BLOCK = 1 << 24  # on a device: few launches, 128 MiB beside the stack
ROUNDING = 1e-12  # of a sum of masses; times a far row, it would be far, too
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


def gram(rows: Rows, points: Tensor | None = None) -> FloatArray:
    """Gram of rows, then points, centred by the row of median norm, over scale^2, float64.

    The row of median norm is no longer than some honest row and no shorter than another, so no
    Byzantine row can spend the digits that the honest distances need, as it could in the mean.
    """
    X = rows.data
    A = X[:0] if points is None else points
    if X.device.type != "cpu":
        return _on_device(X, A, rows)
    compiled = summing_kernel(centred_gram, X.numel())
    if compiled is None:
        return _in_numpy(X.numpy(), A.numpy(), rows)
    messages, others = X.contiguous().numpy(), A.contiguous().numpy()

    def work(start: int, stop: int) -> FloatArray:
        return np.asarray(compiled(messages, others, rows.reference, rows.scale, start, stop))

    return summed(work, X.shape[1], len(X) + len(A))


def _in_numpy(X: NDArray[Any], A: NDArray[Any], rows: Rows) -> FloatArray:
    """The same block by block, by the threads of numpy's BLAS alone."""
    (m, k), n = X.shape, len(X) + len(A)
    width = max(BLOCK // n, 1)
    space = np.empty((n, width + PADDING))
    G = np.zeros((n, n))
    for start in range(0, k, width):
        block = space[:, : min(width, k - start)]
        block[:m] = X[:, start : start + width]
        block[m:] = A[:, start : start + width]
        block -= block[rows.reference].copy()
        if rows.scale != 1:
            block /= rows.scale
        G += block @ block.T  # numpy sees this form and computes one triangle only
    return G


def _on_device(X: Tensor, A: Tensor, rows: Rows) -> FloatArray:
    """The same in torch; a device keeps its data to itself."""
    (_, k), n = X.shape, len(X) + len(A)
    width = max(DEVICE_BLOCK // n, 1)
    G = X.new_zeros((n, n), dtype=torch.float64)
    for start in range(0, k, width):
        columns = slice(start, start + width)
        block = torch.cat([X[:, columns].double(), A[:, columns].double()])
        block -= block[rows.reference].clone()
        if rows.scale != 1:
            block /= rows.scale
        G += block @ block.T
    return G.cpu().numpy()


def squared_distances(G: FloatArray) -> FloatArray:
    """D_ij = G_ii + G_jj - 2 G_ij, (n, n), never negative, exactly 0 on the diagonal."""
    norms = np.diagonal(G)
    D: FloatArray = np.maximum(norms[:, None] + norms - 2 * G, 0)
    np.fill_diagonal(D, 0)
    return D


def squared_distances_to(G: FloatArray, w: FloatArray) -> FloatArray:
    """Squared distance of every row to the weighted mean ``w^T X``, sum w = 1: (n,), never < 0."""
    Gw = G @ w
    return np.asarray(np.maximum(w @ Gw - 2 * Gw + np.diagonal(G), 0))


def weighted_sum(w: FloatArray, rows: Tensor) -> Tensor:
    """``w^T X`` in the rows' dtype and on their device."""
    if np.abs(w).max(initial=0) > LARGEST_WEIGHT:
        return (torch.from_numpy(w).to(rows.device) @ rows.double()).to(rows.dtype)
    return torch.from_numpy(w).to(rows) @ rows


def placed(w: FloatArray, X: Tensor, A: Tensor) -> Tensor:
    """``w^T [X; A]``."""
    m = len(X)
    total = weighted_sum(w[:m], X)
    return total.add_(weighted_sum(w[m:], A)) if w[m:].any() else total


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
            ValueError: Wrong shape, a value that is not finite, or an illegal (n, f).
        """
        G = gram.detach().cpu().numpy() if isinstance(gram, Tensor) else np.asarray(gram)
        n = len(G) if G.ndim else 0
        if n == 0 or G.shape != (n, n) or not np.isfinite(G).all():
            raise ValueError(f"gram of shape {G.shape} must be a finite, non-empty (n, n) matrix")
        self.check(n)
        self._check_weights(client_weights)
        G, told = G.astype(np.float64), np.zeros(n)
        share = None if client_weights is None else normalised(client_weights, n)
        heard = np.arange(n) if share is None else np.flatnonzero(share)
        self._check_heard(len(heard), n)
        if len(heard) < n:
            G = G[np.ix_(heard, heard)]
        told[heard] = self._solve(G, 0, None if share is None else share[heard])
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

    @abstractmethod
    def _points(self, rows: Rows) -> Tensor:
        """The points A, (a, k), of the rows' dtype and on their device."""

    @abstractmethod
    def _place(self, seen: Products) -> FloatArray:
        """Weights of the messages and of the points, (m + a,), summing to 1."""

    def _combine(self, rows: Rows, *, explain: bool) -> tuple[Tensor, FloatArray | None]:  # noqa: ARG002
        A = self._points(rows)
        w = self._place(Products(gram(rows, A), len(A), rows.removed, rows.share, rows.scale))
        return placed(w, rows.data, A), w[: len(rows.data)]


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
    order = np.argsort(distances, kind="stable")
    p = np.full(m, 1 / m) if seen.share is None else seen.share
    taken = first_mass(order, p, 1 - largest_share(seen.share, m, f))
    ordered = distances[order]
    rank = np.empty(m, dtype=np.intp)
    rank[order] = np.cumsum(np.diff(ordered, prepend=ordered[0]) > NEAR_TIE * ordered)
    part = np.bincount(rank, taken) / np.maximum(np.bincount(rank, p), np.finfo(float).tiny)
    return np.asarray(p * part[rank] / taken.sum())
