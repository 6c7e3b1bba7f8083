"""Gradients that are one outer product: a linear layer that sees one row per sample.

G_j = delta_j a_j^T, so ||G_j|| = ||delta_j|| ||a_j||, and a client's weighted sum is one matrix
product (c * delta)^T a over its samples (I. Goodfellow, "Efficient per-example gradient
computations", 2015).
"""

from __future__ import annotations

import torch
from torch import Tensor

from fedsieve.learning.layers._factors import Positions, Projected, Rows, Segments, multiply

FEW = 100
"""Below one chosen position in 100 the chosen numbers are gathered sample by sample (measured)."""


class RankOne:
    """Gradients left_j right_j^T.

    Args:
        left: Derivatives by the outputs (B, outputs), which are the gradients of a bias.
        right: Inputs (B, inputs).
    """

    def __init__(self, left: Rows, right: Rows) -> None:
        self.sides = (left, right)
        self.left = left.gradients
        self.right = right.gradients

    def squared_norms(self) -> Tensor:
        """Squared norms (B,)."""
        left, right = self.sides
        return left.squared_norms() * right.squared_norms()

    def sums(self, segments: Segments, out: Tensor) -> None:
        """Write each client's weighted sum into a row of ``out``."""
        shape = self.left.shape[1], self.right.shape[1]
        with segments.totals(out) as totals:
            for total, (a, b) in zip(totals, self.products(segments), strict=True):
                multiply(a, b, total.view(shape))

    def products(self, segments: Segments) -> list[tuple[Tensor, Tensor]]:
        """Per client the two matrices whose product is its weighted sum."""
        left, right = self.left, self.right
        if left.shape[1] <= right.shape[1]:
            left = left * segments.coefficients.unsqueeze(1)
        else:
            right = right * segments.coefficients.unsqueeze(1)
        if len(segments.counts) == 1:
            return [(left.t(), right)]
        lefts, rights = left.split(segments.counts), right.split(segments.counts)
        return [(a.t(), b) for a, b in zip(lefts, rights, strict=True)]

    def rows(self, lo: int, hi: int) -> Tensor:
        """The gradients of samples lo..hi."""
        return (self.left[lo:hi, :, None] * self.right[lo:hi, None, :]).flatten(1)

    def on_basis(self, basis: Tensor) -> Projected:
        """Gradients on an input basis."""
        return RankOne(self.sides[0], Rows(self.right @ basis))

    def at(self, positions: Positions) -> Projected:
        """Gradients at the chosen positions."""
        outputs, inputs = positions.matrix
        if len(positions.index) * FEW <= outputs * inputs:
            return Rows(_gathered(self.left, self.right, positions))
        return RankOneEntries(self, positions)


class RankOneEntries:
    """Chosen entries of the gradients left_j right_j^T."""

    def __init__(self, full: RankOne, positions: Positions) -> None:
        self.full = full
        self.positions = positions

    def squared_norms(self) -> Tensor:
        """sum_{(o,i) chosen} left_o^2 right_i^2 = <left^2, M right^2>, of factors of norm 1."""
        left, right = (_unit(side) for side in self.full.sides)
        reached = right.square_() @ self.positions.mask(right).t()
        return reached.mul_(left.square_()).sum(1, dtype=torch.float64) * self.full.squared_norms()

    def sums(self, segments: Segments, out: Tensor) -> None:
        """Gather the chosen entries of each client's full weighted sum."""
        with segments.totals(out) as totals:
            for total, (a, b) in zip(totals, self.full.products(segments), strict=True):
                every = total.new_empty(len(a), b.shape[1])
                multiply(a, b, every)
                torch.index_select(every.view(-1), 0, self.positions.index, out=total)

    def rows(self, lo: int, hi: int) -> Tensor:
        """The chosen entries for samples lo..hi."""
        return _gathered(self.full.left[lo:hi], self.full.right[lo:hi], self.positions)


def _unit(side: Rows) -> Tensor:
    """Rows divided by their norms, so that no square underflows that counts."""
    lengths = side.squared_norms().sqrt().clamp_(min=torch.finfo(side.gradients.dtype).tiny)
    return side.gradients / lengths.unsqueeze(1).to(side.gradients.dtype)


def _gathered(left: Tensor, right: Tensor, positions: Positions) -> Tensor:
    return left.index_select(1, positions.outputs).mul_(right.index_select(1, positions.inputs))
