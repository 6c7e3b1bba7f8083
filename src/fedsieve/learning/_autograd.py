"""Gradients by ordinary autograd: the mean of a batch, and rows for models without closed forms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fedsieve.learning._plan import Plan
from fedsieve.learning._work import ROW_BYTES, Forward, Work, chunks
from fedsieve.learning.flat import FlatModel
from fedsieve.learning.layers import vmapped


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """The module in evaluation mode, so that two runs of it agree."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def gradients_of_mean(
    model: FlatModel, forward: Forward, x: Tensor, y: Tensor
) -> Sequence[Tensor | None]:
    """The gradient of the mean loss by each parameter; ``None`` where it does not depend on it."""
    for parameter in model.parameters:
        parameter.requires_grad_(True)
    try:
        with torch.enable_grad():
            mean = forward(model.module, x, y).mean()
            return torch.autograd.grad(mean, model.parameters, allow_unused=True)
    finally:
        for parameter in model.parameters:
            parameter.requires_grad_(False)


def mean_gradient(model: FlatModel, forward: Forward, x: Tensor, y: Tensor, out: Tensor) -> Tensor:
    """The gradient of the mean loss, written into ``out`` (d,)."""
    found = gradients_of_mean(model, forward, x, y)
    flat = [
        p.new_zeros(p.numel()) if g is None else g.reshape(-1)
        for g, p in zip(found, model.parameters, strict=True)
    ]
    return torch.cat(flat, out=out)


def mean_gradients(
    model: FlatModel, forward: Forward, theta: Tensor, x: Tensor, y: Tensor
) -> Tensor:
    """The gradients of n mean losses at n parameter vectors (n, d), all in one pass.

    On an accelerator one batched pass replaces n passes of small kernels; a CPU is faster with one
    pass after another.

    Args:
        model: The model.
        forward: Gives the samples' losses.
        theta: Parameters (n, d).
        x: Samples (n, B, ...).
        y: Targets (n, B, ...).
    """

    def mean_of(own: Tensor, batch: Tensor, targets: Tensor) -> Tensor:
        named = model.named_views(own)

        def run(inputs: Tensor) -> Tensor:
            outputs: Tensor = torch.func.functional_call(model.module, named, (inputs,))
            return outputs

        return forward(run, batch, targets).mean()

    found: Tensor = vmapped(torch.func.grad(mean_of), 0)(theta, x, y)
    return found


class AutogradRows:
    """Per-sample gradients built whole: by vmap(grad), or by one backward pass per sample.

    Args:
        model: The model.
        forward: Gives the samples' losses.
        looped: One pass per sample, for modules that ``vmap`` refuses.
    """

    def __init__(self, model: FlatModel, forward: Forward, *, looped: bool = False) -> None:
        self.model = model
        self.forward = forward
        self.looped = looped

    def sums(self, theta: Tensor, work: Work) -> None:
        """Do the work, a few samples at a time; ``theta`` is (d,), or (n, d), a row per client."""
        if theta.ndim == 2:
            for own, part in zip(theta, work.clients(), strict=True):
                self.sums(own, part)
        else:
            work.sum_rows(self.rows(theta, work.x, work.y, work.plan))

    def rows(
        self, theta: Tensor, x: Tensor, y: Tensor, plan: Plan
    ) -> Iterator[tuple[int, int, Tensor, Tensor]]:
        """Ranges lo..hi of samples, their projected gradients (hi - lo, k) and losses."""
        of_chunk = self._looped if self.looped else self._vmapped
        step = ROW_BYTES // (self.model.d * theta.element_size())
        self.model.bind(theta)
        for lo, hi in chunks(len(x), step):
            rows, losses = of_chunk(x[lo:hi], y[lo:hi])
            yield lo, hi, plan.project(rows), losses

    def _vmapped(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        slots, module = self.model.layout.slots, self.model.module
        named = {s.name: p.detach() for s, p in zip(slots, self.model.parameters, strict=True)}

        def loss_of(values: dict[str, Tensor], one: Tensor, target: Tensor) -> Tensor:
            def run(batch: Tensor) -> Tensor:
                outputs: Tensor = torch.func.functional_call(module, values, (batch,))
                return outputs

            return self.forward(run, one.unsqueeze(0), target.unsqueeze(0))[0]

        each = vmapped(torch.func.grad_and_value(loss_of), (None, 0, 0))
        gradients, losses = each(named, x, y)
        return torch.cat([gradients[s.name].reshape(len(x), -1) for s in slots], dim=1), losses

    def _looped(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        rows = self.model.parameters[0].new_empty(len(x), self.model.d)
        losses = []
        for row, one, target in zip(rows, x.split(1), y.split(1), strict=True):
            mean_gradient(self.model, self.forward, one, target, row)
            with torch.no_grad():
                losses.append(self.forward(self.model.module, one, target))
        return rows, torch.cat(losses)
