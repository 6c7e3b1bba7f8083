"""Gradients that are a sum of T outer products: convolutions, and linear layers on sequences.

G_j = L_j R_j with L_j (outputs, T) and R_j (T, inputs). Two ways to the norm, of which the cheaper
is taken: build G_j (T * outputs * inputs multiplications, the very ones that the sum needs), or use
||L R||^2 = <L^T L, R R^T>, T^2 (outputs + inputs) multiplications (X. Li et al., "Large language
models can be strong differentially private learners", ICLR 2022; Z. Bu et al., "Scalable and
efficient training of large convolutional neural networks with differential privacy", NeurIPS 2022).

The second way is exact for the gradient, but the sum adds numbers that are rounded at the size of
S_j = sum_t |l_t| |r_t|. If a sample's outer products cancel, ||G_j|| << S_j, the two differ: such
samples take the first way, both for the norm and for the sum.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fedsieve.learning.layers._factors import (
    DENSE_BYTES,
    Positions,
    Projected,
    Rows,
    Segments,
    squared,
)

TRAFFIC = 16
"""Multiplications that cost as much as writing and reading one number (measured, one CPU core)."""
CACHED = 2**18
"""Numbers of ``right`` held at once: 1 MiB stays in the cache between unfolding and product."""
CANCELLED = 1e-3
"""Share of S^2 below which a squared norm counts as cancelled: S * 2^-24 is 2e-6 of the norm."""
WIDE = 2
"""Float32 multiplications that cost as much as one in float64."""


class Bilinear:
    """Gradients left_j @ right_j, where ``right`` is made when needed, a few samples at a time.

    Args:
        left: Derivatives by the outputs (B * groups, outputs per group, T).
        right: ``right(lo, hi)`` gives ((hi - lo) * groups, T, inputs) for samples lo..hi.
        inputs: Columns of ``right``.
        groups: Independent blocks of outputs (grouped convolutions).
    """

    def __init__(
        self, left: Tensor, right: Callable[[int, int], Tensor], inputs: int, groups: int = 1
    ) -> None:
        self.left = left
        self.right = right
        self.inputs = inputs
        self.groups = groups
        self.size = len(left) // groups
        self._dense: Rows | None = None
        self._built: list[tuple[int, int]] = []

    @property
    def width(self) -> int:
        """Numbers of one gradient."""
        return self.groups * self.left.shape[1] * self.inputs

    def squared_norms(self) -> Tensor:
        """Squared norms (B,)."""
        outputs, length = self.left.shape[1:]
        gram = length * length * (outputs + self.inputs)
        fits = self.size * self.width * self.left.element_size() <= DENSE_BYTES
        if fits and TRAFFIC * outputs * self.inputs <= gram:
            self._dense = Rows(self.rows(0, self.size))
            return self._dense.squared_norms()
        by_gram = WIDE * gram <= length * outputs * self.inputs
        self._built = []
        norms = []
        for lo, hi in self._pieces(0, self.size):
            found = self._gram_norms(lo, hi) if by_gram else None
            if found is None:
                found = squared(self.rows(lo, hi))
                self._built.append((lo, hi))
            norms.append(found)
        return torch.cat(norms)

    def _gram_norms(self, lo: int, hi: int) -> Tensor | None:
        """Squared norms of samples lo..hi in float64; ``None`` if one of the samples cancels."""
        left, right = self._left(lo, hi).double(), self.right(lo, hi).double()
        lefts, rights = left.transpose(1, 2) @ left, right @ right.transpose(1, 2)
        lengths = [gram.diagonal(dim1=1, dim2=2) for gram in (lefts, rights)]
        terms = (lengths[0] * lengths[1]).sqrt_().sum(1).square_().view(hi - lo, -1).sum(1)
        norms = lefts.mul_(rights).view(hi - lo, -1).sum(1)
        # Numbers at the ends of the float range do not stand a coefficient on one factor alone.
        largest = torch.finfo(self.left.dtype).max
        extreme = any(bool((length > largest).any()) for length in lengths)
        return None if extreme or bool((norms < CANCELLED * terms).any()) else norms

    def sums(self, segments: Segments, out: Tensor) -> None:
        """Write each client's weighted sum into a row of ``out``."""
        if self._dense is not None:
            self._dense.sums(segments, out)
            return
        with segments.totals(out) as totals:
            self._add_up(segments, totals)

    def _add_up(self, segments: Segments, totals: list[Tensor]) -> None:
        for total in totals:
            total.zero_()
        # The same call as for the norms, on the same samples: the very same numbers.
        for lo, hi in self._built:
            rows = self.rows(lo, hi)
            for client, a, b in segments.clients(lo, hi):
                own, scale = rows[a - lo : b - lo].t(), segments.coefficients[a:b]
                total = totals[client]
                total.addmv_(own.to(total.dtype), scale.to(total.dtype))
        coefficients = segments.coefficients
        if self._built:
            coefficients = coefficients.clone()
            for lo, hi in self._built:
                coefficients[lo:hi] = 0.0
            if not coefficients.any():
                return
        shape = (self.groups, self.left.shape[1], self.inputs)
        start = 0
        for count, target in zip(segments.counts, totals, strict=True):
            total = target.view(shape)
            for lo, hi in self._pieces(start, start + count):
                scale = coefficients[lo:hi].repeat_interleave(self.groups)
                left = (self._left(lo, hi) * scale[:, None, None]).unflatten(0, (-1, self.groups))
                right = self.right(lo, hi).unflatten(0, (-1, self.groups))
                left, right = left.to(total.dtype), right.to(total.dtype)
                total += torch.einsum("bgot,bgti->goi", left, right)
            start += count

    def rows(self, lo: int, hi: int) -> Tensor:
        """The gradients of samples lo..hi."""
        out = self.left.new_empty(hi - lo, self.width)
        shaped = out.view((hi - lo) * self.groups, -1, self.inputs)
        for a, b in self._pieces(lo, hi):
            target = shaped[(a - lo) * self.groups : (b - lo) * self.groups]
            torch.bmm(self._left(a, b), self.right(a, b), out=target)
        return out

    def on_basis(self, basis: Tensor) -> Projected:
        """Gradients on an input basis: right @ basis is small and is kept."""
        pieces = [self.right(lo, hi) @ basis for lo, hi in self._pieces(0, self.size)]
        return of_tensors(self.left, torch.cat(pieces), self.groups)

    def at(self, positions: Positions) -> Projected:
        """Gradients at the chosen positions, built a few samples at a time."""
        out = self.left.new_empty(self.size, len(positions.index))
        for lo, hi in self._pieces(0, self.size):
            torch.index_select(self.rows(lo, hi), 1, positions.index, out=out[lo:hi])
        return Rows(out)

    def _left(self, lo: int, hi: int) -> Tensor:
        return self.left[lo * self.groups : hi * self.groups]

    def _pieces(self, lo: int, hi: int) -> list[tuple[int, int]]:
        step = max(1, CACHED // (self.groups * self.left.shape[2] * self.inputs))
        return [(a, min(a + step, hi)) for a in range(lo, hi, step)]


def of_tensors(left: Tensor, right: Tensor, groups: int = 1) -> Bilinear:
    """Gradients left_j @ right_j from tensors (B * groups, outputs, T), (B * groups, T, inputs)."""
    return Bilinear(left, lambda lo, hi: right[lo * groups : hi * groups], right.shape[2], groups)
