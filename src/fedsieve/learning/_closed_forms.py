"""Clipped sums from one forward and backward pass, without building per-sample gradients."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType

import torch
from torch import Tensor

from fedsieve.learning._plan import Plan
from fedsieve.learning._taps import Taps
from fedsieve.learning._work import ROW_BYTES, Forward, Work, all_finite, chunks
from fedsieve.learning.flat import FlatModel
from fedsieve.learning.layers import Factor, Segments


class ClosedForms:
    """The closed forms of a model; usable inside a ``with`` block.

    Args:
        model: The model.
        forward: Gives the samples' losses.
        memory: Bytes that the activations of one pass may take.
        numbers: Numbers that go in and out of the layers for one sample; 0 measures them.

    Raises:
        NoClosedFormError: The model has none.
    """

    def __init__(self, model: FlatModel, forward: Forward, memory: int, numbers: int = 0) -> None:
        self.model = model
        self.forward = forward
        self.memory = memory
        self.taps = Taps(model.module, model.layout)
        self.taps.numbers_per_sample = numbers

    def __reduce__(self) -> tuple[type[ClosedForms], tuple[FlatModel, Forward, int, int]]:
        # Taps belong to one module: in another process they are set up for its copy.
        numbers = self.taps.numbers_per_sample
        return ClosedForms, (self.model, self.forward, self.memory, numbers)

    def __enter__(self) -> ClosedForms:
        self.taps.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.taps.__exit__(kind, value, traceback)

    def sums(self, work: Work) -> None:
        """Do the work, in as many passes as the memory asks for."""
        if work.plan.mixes_layers:
            work.sum_rows(self.rows(work.x, work.y, work.plan))
            return
        spans = chunks(len(work.x), self._per_pass)
        if len(spans) == 1:
            self._pass(work)
            return
        work.sums.zero_()
        for lo, hi in spans:
            span = work.span(lo, hi)
            self._pass(span)
            work.add(span.sums, lo, hi)

    def rows(self, x: Tensor, y: Tensor, plan: Plan) -> Iterator[tuple[int, int, Tensor, Tensor]]:
        """Ranges lo..hi of samples, their projected gradients (hi - lo, k) and losses."""
        step = ROW_BYTES // (self.model.d * self.model.parameters[0].element_size())
        for start, stop in chunks(len(x), self._per_pass):
            factors, losses = self._factors(x[start:stop], y[start:stop])
            with torch.no_grad():
                parts = factors if plan.mixes_layers else plan.apply(factors)
                for lo, hi in chunks(stop - start, step):
                    rows = torch.cat([part.rows(lo, hi) for part in parts], dim=1)
                    rows = plan.project(rows) if plan.mixes_layers else rows
                    yield start + lo, start + hi, rows, losses[lo:hi]

    def _pass(self, work: Work) -> None:
        factors, losses = self._factors(work.x, work.y)
        with torch.no_grad():
            parts = work.plan.apply(factors)
            work.norms.zero_()
            for part in parts:
                work.norms.add_(part.squared_norms())
            work.norms.sqrt_()
            work.losses.copy_(losses)
            if not all_finite(work.norms):
                self._pass_without_bad(work)
                return
            segments = Segments(work.coefficients(), work.counts)
            for part, target in zip(parts, work.plan.columns(work.sums), strict=True):
                part.sums(segments, target)

    def _pass_without_bad(self, work: Work) -> None:
        """The pass again with the good samples only: zero times NaN would still be NaN."""
        finite = work.norms.isfinite()
        good = finite.nonzero().squeeze(1)
        if len(good) == 0:
            work.sums.zero_()
            return
        rest = work.at(good, [int(part.sum()) for part in finite.split(work.counts)], work.sums)
        self._pass(rest)
        work.norms[good] = rest.norms

    def _factors(self, x: Tensor, y: Tensor) -> tuple[list[Factor], Tensor]:
        return self.taps.factors(lambda: self.forward(self.model.module, x, y), len(x))

    @property
    def _per_pass(self) -> int:
        """Samples of one pass; before the first pass has been measured, a few."""
        if not self.taps.numbers_per_sample:
            return 16
        # An activation is alive together with its derivative and one temporary copy.
        size = 3 * self.model.parameters[0].element_size() * self.taps.numbers_per_sample
        return max(1, self.memory // size)
