"""Clipped sums from one forward and backward pass, without building per-sample gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from fedsieve.learning._plan import Plan
from fedsieve.learning._taps import Record, Taps
from fedsieve.learning._work import ROW_BYTES, Forward, Work, all_finite, chunks
from fedsieve.learning._written_pass import WrittenPass
from fedsieve.learning.flat import FlatModel


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
        self.written = WrittenPass(model, self.taps)

    def __reduce__(self) -> tuple[type[ClosedForms], tuple[FlatModel, Forward, int, int]]:
        # Taps belong to one module: in another process they are set up for its copy.
        numbers = self.taps.numbers_per_sample
        return ClosedForms, (self.model, self.forward, self.memory, numbers)

    def __enter__(self) -> ClosedForms:
        self.taps.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.taps.__exit__()

    @torch.no_grad()
    def sums(self, theta: Tensor, work: Work) -> None:
        """Do the work, in as many passes as the memory asks for.

        Args:
            theta: Parameters (d,) of all clients, or (n, d) with a row per client.
            work: The samples and where the results go.
        """
        spans = chunks(len(work.x), self._per_pass)
        # The closed forms do not look at the parameters, so the clients' runs can be joined; a
        # layer without one differentiates itself, with the parameters that it has at the time.
        joint = len(spans) <= 1 and not self.taps.without_form and not work.plan.mixes_layers
        if theta.ndim == 2 and not joint:
            for own, part in zip(theta, work.clients(), strict=True):
                self.sums(own, part)
        elif work.plan.mixes_layers:
            work.sum_rows(self.rows(theta, work.x, work.y, work.plan))
        elif len(spans) <= 1:
            self._pass(theta, work)
        else:
            work.sums.zero_()
            for lo, hi in spans:
                span = work.span(lo, hi)
                self._pass(theta, span)
                work.add(span.sums, lo, hi)

    @torch.no_grad()
    def rows(
        self, theta: Tensor, x: Tensor, y: Tensor, plan: Plan
    ) -> Iterator[tuple[int, int, Tensor, Tensor]]:
        """Ranges lo..hi of samples, their projected gradients (hi - lo, k) and losses."""
        step = ROW_BYTES // (self.model.d * theta.element_size())
        for start, stop in chunks(len(x), self._per_pass):
            records = self._records(theta, x[start:stop], y[start:stop], [stop - start])
            factors, losses = self.taps.factors(records)
            parts = factors if plan.mixes_layers else plan.apply(factors)
            for lo, hi in chunks(stop - start, step):
                rows = torch.cat([part.rows(lo, hi) for part in parts], dim=1)
                rows = plan.project(rows) if plan.mixes_layers else rows
                yield start + lo, start + hi, rows, losses[lo:hi]

    def _pass(self, theta: Tensor, work: Work) -> None:
        if len(work.x) == 0:
            work.sums.zero_()
            return
        factors, losses = self.taps.factors(self._records(theta, work.x, work.y, work.counts))
        parts = work.plan.apply(factors)
        groups = work.plan.groups(work.clip)
        norms = work.norms.new_zeros(len(groups), len(work.x))
        for squares, (_, members) in zip(norms, groups, strict=True):
            for i in members:
                squares += parts[i].squared_norms()
        # Norms near the end of the float range have no usable coefficient: as good as infinite.
        squares = work.norms.copy_(norms.sum(0))
        squares.masked_fill_(squares > torch.finfo(theta.dtype).max, float("inf")).sqrt_()
        work.losses.copy_(losses)
        if not all_finite(work.norms):
            self._pass_without_bad(theta, work)
            return
        columns = work.plan.columns(work.sums)
        for squares, (clip, members) in zip(norms, groups, strict=True):
            segments = work.segments(work.coefficients(clip, squares.sqrt_()))
            for i in members:
                parts[i].sums(segments, columns[i])

    def _pass_without_bad(self, theta: Tensor, work: Work) -> None:
        """The pass again with the good samples only: zero times NaN would still be NaN."""
        finite = work.norms.isfinite()
        good = finite.nonzero().squeeze(1)
        counts = [int(part.sum()) for part in finite.split(work.counts)]
        rest = work.at(good, counts, work.wide, work.sums)
        self._pass(theta, rest)
        work.norms[good] = rest.norms
        work.factors.zero_()[good] = rest.factors

    def _records(self, theta: Tensor, x: Tensor, y: Tensor, counts: Sequence[int]) -> list[Record]:
        """Run forward and backward; of parameters (n, d), each row on its client's samples."""
        if theta.ndim == 1:
            theta, counts = theta.unsqueeze(0), [len(x)]
        batches = zip(theta, x.split(counts), y.split(counts), strict=True)
        if not self.written.covers(self.forward, x, y):
            return [self.taps.record(self._run(*batch)) for batch in batches if len(batch[1])]
        self.model.bind(theta[-1])
        views = zip(*(view.unbind() for view in self.model.views(theta)), strict=True)
        return [
            self.written.record(own, *batch)
            for own, (_, *batch) in zip(views, batches, strict=True)
            if len(batch[0])
        ]

    def _run(self, theta: Tensor, x: Tensor, y: Tensor) -> Callable[[], Tensor]:
        return lambda: self.forward(self.model.bind(theta), x, y)

    @property
    def _per_pass(self) -> int:
        """Samples of one pass; before the first pass has been measured, a few."""
        if not self.taps.numbers_per_sample:
            return 16
        # An activation is alive together with its derivative and one temporary copy.
        size = 3 * self.model.parameters[0].element_size() * self.taps.numbers_per_sample
        return max(1, self.memory // size)
