"""A pass through a chain of linear layers, with the derivatives written out.

What `_taps` records with hooks and autograd is computed here without either, whose bookkeeping
takes longer than the arithmetic where every client has parameters and a pass of its own. The
operations are those of autograd on tensors of the same shapes: the numbers are the same to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedsieve.learning._chain import chain, walk, written
from fedsieve.learning._taps import Record, Taps
from fedsieve.learning._work import Forward
from fedsieve.learning.flat import FlatModel
from fedsieve.learning.losses import cross_entropy

EACH = (None, 0, -100)
"""Torch's arguments of a cross entropy without weights or mean: ``reduction="none"``."""


class WrittenPass:
    """Forward and backward through the chain of a model, if it has one.

    Args:
        model: The model.
        taps: Its layers.
    """

    def __init__(self, model: FlatModel, taps: Taps) -> None:
        layers = chain(model.module) or []
        flattens = [layer for layer in layers if isinstance(layer, nn.Flatten)]
        rows = all((part.start_dim, part.end_dim) == (1, -1) for part in flattens) and (
            len(model.layout.input_shape) == 1 or flattens[:1] == layers[:1]
        )
        self._model = model
        self._layers = layers if rows and written(layers) else []
        self._taps = {tap.layer: tap for tap in taps.taps}

    def covers(self, forward: Forward, x: Tensor, y: Tensor) -> bool:
        """Whether it does what ``forward`` does, on samples x and targets y."""
        return (
            bool(self._layers)
            and forward.loss is cross_entropy
            and forward.compute_dtype is torch.float32
            and x.shape[1:] == self._model.layout.input_shape
            and y.ndim == 1
        )

    def record(self, parameters: Sequence[Tensor], x: Tensor, y: Tensor) -> Record:
        """What goes into the layers, the derivatives by what comes out, and the losses.

        Args:
            parameters: The tensors of the parameters, in the layout's order.
            x: Samples (B, ...).
            y: Classes (B,).
        """
        losses = x.new_empty(0)

        def of(layer: nn.Linear) -> tuple[Tensor, Tensor | None]:
            places = self._taps[layer].places
            return parameters[places["weight"]], (
                None if layer.bias is None else parameters[places["bias"]]
            )

        def start(z: Tensor) -> Tensor:
            nonlocal losses
            losses, delta = _cross_entropy(z, y)
            return delta

        found = walk(
            self._layers,
            x,
            forward=lambda layer, a: functional.linear(a, *of(layer)),
            start=start,
            backward=lambda layer, delta: delta @ of(layer)[0],
        )
        layers = {self._taps[layer].name: (a, delta) for layer, a, delta in found}
        numbers = sum(a.shape[1] + delta.shape[1] for a, delta in layers.values())
        return Record(layers, losses, numbers)


def _cross_entropy(z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Losses (B,) of outputs z (B, classes), and the derivative of their sum by z."""
    logs = z.log_softmax(1)
    losses, total = torch.ops.aten.nll_loss_forward(logs, y, *EACH)
    ones = torch.ones_like(losses)
    delta = torch.ops.aten.nll_loss_backward(ones, logs, y, *EACH, total)
    return losses, torch.ops.aten._log_softmax_backward_data(delta, logs, 1, logs.dtype)
