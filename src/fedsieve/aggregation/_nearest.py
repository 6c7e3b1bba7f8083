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
from fedsieve.aggregation._gram import PointRule, Products, nearest_mean
from fedsieve.aggregation._sorting import blocks
from fedsieve.aggregation._threads import added, summed


@dataclass(frozen=True)
class Nearest(PointRule):
    """The mean of the n - f messages nearest to the only further point."""

    def _look(self, rows: Rows, A: Tensor) -> FloatArray:
        """The Gram about the point, without the products between messages; it adds up."""
        return np.diag(np.append(_squared_distances_to(A, rows), 0.0))

    def _place(self, seen: Products) -> FloatArray:
        return np.append(nearest_mean(seen, self.f), 0.0)


def _squared_distances_to(point: Tensor, rows: Rows) -> FloatArray:
    """||x_i - a||^2 / scale^2 of every row, (m,), for a point (1, k); added up in float64."""
    X, (n, k) = rows.data, rows.data.shape
    if X.device.type != "cpu":
        parts = (
            (X[:, columns].double() - point[:, columns].double()) / rows.scale
            for columns in blocks(0, k, n, on_cpu=False)
        )
        return added(part.square_().sum(dim=1).cpu().numpy() for part in parts)
    kernel = summing_kernel(squared_offsets, X.numel()) if rows.scale == 1 else None
    messages = (X if kernel is None else X.contiguous()).numpy()
    centre = point.contiguous().numpy()[0]

    def work(start: int, stop: int) -> FloatArray:
        if kernel is not None:
            return np.asarray(kernel(messages, centre, start, stop))
        squares = np.zeros(n)
        for columns in blocks(start, stop, n):
            offsets = messages[:, columns] - centre[columns].astype(np.float64)
            if rows.scale != 1:
                offsets /= rows.scale
            squares += np.einsum("ij,ij->i", offsets, offsets)
        return squares

    return summed(work, k, n)
