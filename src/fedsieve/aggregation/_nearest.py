"""Means of the messages nearest to one point, for which no inner product between messages counts.

The distances cost one reading of the stack; the Gram, which also serves behind a pre-aggregator,
would cost n of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from fedsieve.aggregation._compiled import summing_kernel
from fedsieve.aggregation._compiled_gram import squared_offsets
from fedsieve.aggregation._door import FloatArray, Rows
from fedsieve.aggregation._gram import (
    NEAR_TIE,
    PointRule,
    Products,
    first_mass,
    squared_distances,
    weighted_sum,
)
from fedsieve.aggregation._sorting import blocks
from fedsieve.aggregation._threads import added, summed
from fedsieve.aggregation.rule import largest_share, minority


@dataclass(frozen=True)
class Nearest(PointRule):
    """The mean of the n - f messages nearest to the only further point."""

    def breakdown(self, n: int) -> int:
        """2f < n."""
        return minority(n)

    def _place(self, seen: Products) -> FloatArray:
        w = self._mean(squared_distances(seen.G)[seen.m, : seen.m], seen.removed, seen.share)
        return np.append(w, 0.0)

    def _combine(self, rows: Rows, *, explain: bool) -> tuple[Tensor, FloatArray | None]:  # noqa: ARG002
        w = self._mean(_squared_distances_to(self._points(rows), rows), rows.removed, rows.share)
        return weighted_sum(w, rows.data), w

    def _mean(self, distances: FloatArray, removed: int, share: FloatArray | None) -> FloatArray:
        """Weights (m,) of messages at these squared distances, after so many were removed.

        With shares, the farthest messages lose the most weight that f clients can hold. Messages
        that are equally far, as clipped ones are from the origin, share what is kept of them.
        """
        m, f = len(distances), self.f - removed
        order = np.argsort(distances, kind="stable")
        p = np.full(m, 1 / m) if share is None else share
        taken = first_mass(order, p, 1 - largest_share(share, m, f))
        ordered = distances[order]
        rank = np.empty(m, dtype=np.intp)
        rank[order] = np.cumsum(np.diff(ordered, prepend=ordered[0]) > NEAR_TIE * ordered)
        part = np.bincount(rank, taken) / np.maximum(np.bincount(rank, p), np.finfo(float).tiny)
        return np.asarray(p * part[rank] / taken.sum())


def _squared_distances_to(point: Tensor, rows: Rows) -> FloatArray:
    """||x_i - a||^2 / scale^2 of every row, (m,), for a point (1, k); added up in float64."""
    X, (n, k) = rows.data, rows.data.shape
    if X.device.type != "cpu":
        parts = (
            (X[:, columns].double() - point[:, columns].double()) / rows.scale
            for columns in blocks(0, k, n, on_cpu=False)
        )
        return added(part.square_().sum(dim=1).cpu().numpy() for part in parts)
    compiled = summing_kernel(squared_offsets, X.numel()) if rows.scale == 1 else None
    messages = (X if compiled is None else X.contiguous()).numpy()
    centre = point.contiguous().numpy()[0]

    def work(start: int, stop: int) -> FloatArray:
        if compiled is not None:
            return np.asarray(compiled(messages, centre, start, stop))
        squares = np.zeros(n)
        for columns in blocks(start, stop, n):
            offsets = messages[:, columns] - centre[columns].astype(np.float64)
            if rows.scale != 1:
                offsets /= rows.scale
            squares += np.einsum("ij,ij->i", offsets, offsets)
        return squares

    return summed(work, k, n)
