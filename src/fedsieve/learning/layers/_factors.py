"""Per-sample gradients of one parameter tensor, kept as factors instead of numbers.

The gradient of a layer's weight on one sample is a sum of outer products of what went in
(``right``) and of the loss's derivative by what came out (``left``). Norms and weighted sums follow
from the two factors; the B gradients themselves, which would be B times the model, are not built.
The factors of a *projected* gradient are those of the gradient, with the layer's map applied to one
side.

The norm by which a gradient is clipped must be that of the very numbers that are added up. Where a
norm follows from other numbers (a Gram matrix, say), the two agree only up to rounding, and a
gradient whose terms cancel is nothing but rounding: such a gradient is built.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

DENSE_BYTES = 2**26
"""Per-sample gradients of one tensor are kept between norm and sum if they fit in 64 MiB."""
BLOCK = 1024
"""Numbers whose squares are summed in float32."""
CHUNK = 512
"""Samples whose factors are widened to float64 at a time."""
SMALL = 1e-30
"""Squared norms below this may have lost squares to underflow."""


class NoClosedFormError(Exception):
    """Why the closed forms cannot be used for this model; the message is one clause."""


class Positions:
    """Chosen positions of a parameter tensor, prepared once for all batches of a plan.

    Args:
        index: Positions in the flattened tensor, int64 (w,).
        matrix: The tensor's shape (outputs, inputs) as a matrix.
    """

    def __init__(self, index: Tensor, matrix: tuple[int, int]) -> None:
        self.index = index
        self.matrix = matrix
        self.outputs = index // max(matrix[1], 1)
        self.inputs = index % max(matrix[1], 1)
        self._mask: Tensor | None = None

    def mask(self, like: Tensor) -> Tensor:
        """The 0/1 matrix (outputs, inputs) of the chosen positions, in the dtype of ``like``."""
        if self._mask is None or self._mask.dtype != like.dtype:
            flat = like.new_zeros(self.matrix[0] * self.matrix[1])
            self._mask = flat.index_fill_(0, self.index, 1.0).view(self.matrix)
        return self._mask


@dataclass(frozen=True)
class Segments:
    """The samples of a batch by client.

    Args:
        coefficients: What each sample's gradient is multiplied by, (B,).
        counts: How many consecutive samples each client has, n numbers whose sum is B.
        wide: Which clients' sums are added up in float64, n flags.
    """

    coefficients: Tensor
    counts: list[int]
    wide: list[bool]

    @cached_property
    def matrix(self) -> Tensor:
        """The coefficients as a block matrix (n, B): row i has those of client i, else zeros."""
        n, size = len(self.counts), len(self.coefficients)
        if n == 1:
            return self.coefficients.unsqueeze(0)
        device = self.coefficients.device
        owner = torch.repeat_interleave(torch.tensor(self.counts, device=device), output_size=size)
        out = self.coefficients.new_zeros(n, size)
        out[owner, torch.arange(size, device=device)] = self.coefficients
        return out

    def clients(self, lo: int, hi: int) -> Iterator[tuple[int, int, int]]:
        """The clients with samples among lo..hi: which, and the range of those samples."""
        start = 0
        for client, count in enumerate(self.counts):
            a, b = max(start, lo), min(start + count, hi)
            if a < b:
                yield client, a, b
            start += count

    @contextmanager
    def totals(self, out: Tensor) -> Iterator[list[Tensor]]:
        """Where each client's sum is to be written, of the type in which it is added up.

        A client that adds up in float32 does so beside one that does not, and its row of ``out`` is
        filled in at the end: the bits of its sum depend on nobody else.

        Args:
            out: Rows (n, width), float64 if a client's sum is wide.
        """
        rows = list(out.unbind())
        if out.dtype == self.coefficients.dtype:
            yield rows
            return
        totals = [
            row if wide else self.coefficients.new_empty(row.shape)
            for wide, row in zip(self.wide, rows, strict=True)
        ]
        yield totals
        for row, total in zip(rows, totals, strict=True):
            if total is not row:
                row.copy_(total)


class Projected(Protocol):
    """The B projected per-sample gradients of one parameter tensor."""

    def squared_norms(self) -> Tensor:
        """Squared norms (B,), float64."""
        ...

    def sums(self, segments: Segments, out: Tensor) -> None:
        """Write each client's weighted sum of gradients into a row of ``out`` (n, width).

        Clients whose sums are wide are added up in float64, the type of ``out``.
        """
        ...

    def rows(self, lo: int, hi: int) -> Tensor:
        """The gradients of samples lo..hi themselves, (hi - lo, width)."""
        ...


class Factor(Projected, Protocol):
    """The B per-sample gradients of one parameter tensor, before a layer map."""

    def on_basis(self, basis: Tensor) -> Projected:
        """Gradients G (outputs, inputs) replaced by G @ basis."""
        ...

    def at(self, positions: Positions) -> Projected:
        """Gradients restricted to the chosen positions."""
        ...


class Rows:
    """Gradients that are built: small ones, or those without a closed form.

    Args:
        gradients: (B, width).
    """

    def __init__(self, gradients: Tensor) -> None:
        self.gradients = gradients

    @cached_property
    def _squares(self) -> Tensor:
        return squared(self.gradients)

    def squared_norms(self) -> Tensor:
        """Squared norms (B,)."""
        return self._squares

    def sums(self, segments: Segments, out: Tensor) -> None:
        """Write each client's weighted sum into a row of ``out``."""
        n, size = out.shape[0], len(self.gradients)
        # One product with a mostly-zero matrix beats n small products while the matrix is small.
        small = n == 1 or (n * size <= 2**15 and out.shape[1] <= 2**10)
        if small and out.dtype == self.gradients.dtype:
            torch.mm(segments.matrix, self.gradients, out=out)
            return
        parts = zip(
            segments.coefficients.unsqueeze(0).split(segments.counts, 1),
            self.gradients.split(segments.counts),
            strict=True,
        )
        with segments.totals(out) as totals:
            for total, (coefficients, gradients) in zip(totals, parts, strict=True):
                multiply(coefficients, gradients, total.unsqueeze(0))

    def rows(self, lo: int, hi: int) -> Tensor:
        """The gradients of samples lo..hi."""
        return self.gradients[lo:hi]

    def on_basis(self, basis: Tensor) -> Projected:
        """Gradients on an input basis."""
        shaped = self.gradients.unflatten(1, (-1, basis.shape[0]))
        return Rows((shaped @ basis).flatten(1))

    def at(self, positions: Positions) -> Projected:
        """Gradients at the chosen positions."""
        return Rows(self.gradients.index_select(1, positions.index))


def multiply(left: Tensor, right: Tensor, out: Tensor) -> None:
    """Write the product over the samples into ``out``, computed in its type.

    Args:
        left: (p, b).
        right: (b, q).
        out: (p, q), of the same type or float64.
    """
    if out.dtype == left.dtype:
        torch.mm(left, right, out=out)
        return
    out.zero_()
    for lo in range(0, len(right), CHUNK):
        hi = lo + CHUNK
        out.addmm_(left[:, lo:hi].to(out.dtype), right[lo:hi].to(out.dtype))


def squared(rows: Tensor) -> Tensor:
    """Squared Euclidean norm (B,), float64, of each row (B, width), to a relative 1e-6.

    One long float32 sum stagnates (2^20 equal numbers: 4e-4 too small), so it is cut into blocks.
    A row of small numbers, whose squares underflow, is done again in float64.

    Args:
        rows: (B, width), of any floating dtype.
    """
    whole = rows.shape[1] // BLOCK * BLOCK
    squares = _norms(rows[:, whole:]).double().square_()
    if whole:
        blocks = _norms(rows[:, :whole].unflatten(1, (-1, BLOCK)))
        squares += blocks.double().square_().sum(1)
    small = squares < SMALL
    if small.any():
        squares[small] = _norms(rows[small].double()).square_()
    return squares


def _norms(x: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(x, dim=-1)
    return norms
