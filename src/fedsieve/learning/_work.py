"""A batch of several clients on its way through the gradient engine.

How far rounding lets one sample move a sum. With u the largest relative error of an operation,
adding up m vectors of norms <= C in any order errs by at most m u on each of their numbers, m^2 u C
in norm, and two neighbouring sums differ by at most 2 m^2 u C more than exact ones. So a client

    of at most FEW = 90 samples       adds up in float32,    2 m^2 u <= 2 * 90^2 * 2^-24  < 2^-10,
    of at most MOST = 2^20 samples    adds up in float64,    2 m^2 u <= 2 * 2^40 * 2^-53  = 2^-12,

and one of more is refused. The errors of a vector itself (of its norm, of the factor of its clip,
and of the product of both) are no part of it: norms are taken as larger by MARGIN. Nor is what
others' gradients may differ by in their last bits, computed in a batch of another size. A layer
with many places (a convolution, say) whose gradients are not built adds up those of all places:
with float32 its worst case is larger, and `tests/learning/test_sensitivity_large.py` measures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fedsieve.learning._plan import Plan
from fedsieve.learning.clipping import Clip
from fedsieve.learning.layers import Rows, Segments, squared

ROW_BYTES = 2**24
"""Gradients that must be built are built 16 MiB at a time: more only adds memory traffic."""

FEW = 90
"""Samples of a client up to which its clipped gradients are added up as they are, in float32."""

MOST = 2**20
"""Samples of a client that are added up at all."""

MARGIN = 32
"""Units of rounding (2^-18 in float32) by which a norm may be too small: four times what it is."""


@dataclass(frozen=True)
class Forward:
    """Runs a module, under autocast if ``compute_dtype`` is bfloat16, and gives the losses."""

    loss: Callable[[Tensor, Tensor], Tensor]
    compute_dtype: torch.dtype

    def __call__(
        self, module: nn.Module | Callable[[Tensor], Tensor], x: Tensor, y: Tensor
    ) -> Tensor:
        """The losses (B,) of the samples.

        Raises:
            ValueError: The loss gives another shape.
        """
        if self.compute_dtype is torch.float32:
            outputs = module(x)
        else:
            with torch.autocast(x.device.type, self.compute_dtype):
                outputs = module(x)
            outputs = outputs.float()
        losses = self.loss(outputs, y)
        if losses.shape != (len(x),):
            raise ValueError(
                f"loss gives shape {tuple(losses.shape)} for {len(x)} samples; per-sample losses "
                f"of shape ({len(x)},) are needed (reduction='none')"
            )
        return losses


@dataclass(frozen=True)
class Work:
    """Samples of some clients, how to clip them, and where the results go."""

    x: Tensor
    y: Tensor
    weights: Tensor | None
    counts: list[int]
    wide: list[bool]
    clip: Clip | None
    plan: Plan
    sums: Tensor
    norms: Tensor
    factors: Tensor
    losses: Tensor

    def clients(self) -> list[Work]:
        """The work of each client on its own."""
        columns = [
            [None] * len(self.counts) if t is None else t.split(self.counts)
            for t in (self.x, self.y, self.weights, self.norms, self.factors, self.losses)
        ]
        return [
            Work(x, y, weights, [count], [wide], self.clip, self.plan, sums, norms, factors, losses)
            for x, y, weights, norms, factors, losses, count, wide, sums in zip(
                *columns, self.counts, self.wide, self.sums.split(1), strict=True
            )
        ]

    def segments(self, coefficients: Tensor) -> Segments:
        """The samples by client, with what each gradient is multiplied by."""
        return Segments(coefficients, self.counts, self.wide)

    def span(self, lo: int, hi: int) -> Work:
        """The work of samples lo..hi, with sums of its own, to be given to `add`."""
        first, counts = overlap(self.counts, lo, hi)
        wide = self.wide[first : first + len(counts)]
        return self.at(slice(lo, hi), counts, wide, self.sums.new_zeros(len(counts), self.plan.k))

    def at(
        self, samples: slice | Tensor, counts: list[int], wide: list[bool], sums: Tensor
    ) -> Work:
        """The work of some of the samples."""
        return replace(
            self,
            x=self.x[samples],
            y=self.y[samples],
            weights=None if self.weights is None else self.weights[samples],
            norms=self.norms[samples],
            factors=self.factors[samples],
            losses=self.losses[samples],
            counts=counts,
            wide=wide,
            sums=sums,
        )

    def add(self, part: Tensor, lo: int, hi: int) -> None:
        """Add the sums of samples lo..hi."""
        first, counts = overlap(self.counts, lo, hi)
        rows = self.sums[first : first + len(counts)]
        rows += part
        if self.sums.dtype != self.losses.dtype:
            # rounded from float64, a sum of two float32 numbers is that of float32
            for wide, row in zip(self.wide[first:], rows, strict=False):
                if not wide:
                    row.copy_(row.to(self.losses.dtype))

    def coefficients(self, clip: Clip | None, norms: Tensor) -> Tensor:
        """The samples' coefficients, weight times factor of the clip, from finite norms."""
        if clip is None:
            return self.losses.new_ones(len(self.x)) if self.weights is None else self.weights
        factors = clip.factors(norms * (1 + MARGIN * torch.finfo(self.losses.dtype).eps))
        torch.minimum(self.factors, factors, out=self.factors)
        scale = factors.to(self.losses.dtype)
        return scale if self.weights is None else scale.mul_(self.weights)

    def sum_rows(self, batches: Iterable[tuple[int, int, Tensor, Tensor]]) -> None:
        """Clip and sum projected gradients that are built, as ranges lo..hi, rows and losses."""
        self.sums.zero_()
        for lo, hi, rows, losses in batches:
            span = self.span(lo, hi)
            span.losses.copy_(losses)
            span.norms.copy_(squared(rows).sqrt_())
            finite = span.norms.isfinite()
            if not finite.all():  # zero times NaN would still be NaN
                rows = torch.where(finite.unsqueeze(1), rows, 0.0)
            for clip, members in self.plan.groups(self.clip):
                parts = self.plan.parts(rows, members)
                whole = len(parts) == 1 and parts[0] is rows
                norms = span.norms if whole else _length(parts)
                coefficients = span.coefficients(clip, norms)
                segments = span.segments(torch.where(finite, coefficients, 0.0))
                targets = self.plan.parts(span.sums, members)
                for part, target in zip(parts, targets, strict=True):
                    Rows(part).sums(segments, target)
            span.factors.masked_fill_(~finite, 0.0)
            self.add(span.sums, lo, hi)


def _length(parts: Sequence[Tensor]) -> Tensor:
    """The norms (b,) of vectors in several parts (b, width)."""
    return torch.stack([squared(part) for part in parts]).sum(0).sqrt_()


def all_finite(numbers: Tensor) -> bool:
    """Whether all of these non-negative numbers are finite, by one sum."""
    return math.isfinite(float(numbers.sum()))


def overlap(counts: Sequence[int], lo: int, hi: int) -> tuple[int, list[int]]:
    """The first client with samples among lo..hi, and how many each client from there has."""
    inside: list[int] = []
    first = start = 0
    for client, count in enumerate(counts):
        common = min(start + count, hi) - max(start, lo)
        start += count
        if common > 0:
            if not inside:
                first = client
            inside.extend([0] * (client - first - len(inside)))
            inside.append(common)
    return first, inside


def chunks(size: int, step: int) -> list[tuple[int, int]]:
    """The ranges 0..step, step..2 step, ... up to ``size``."""
    step = max(1, step)
    return [(lo, min(lo + step, size)) for lo in range(0, size, step)]
