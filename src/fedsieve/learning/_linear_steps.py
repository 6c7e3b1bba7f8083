"""A step of SGD on a chain of linear layers without its gradient ever being a tensor.

The gradient of a batch's mean loss by a linear layer's weights is ``delta^T a / B``, with the
layer's inputs a (B, in) and the derivatives delta (B, out) by its outputs. One matrix product
subtracts it from the weights in place,

    W <- W - (lr / B) delta^T a,

where autograd would write it out and an optimiser read it again: a quarter of the time of a step.
Where loss and activations have a written derivative, the deltas need no autograd either, whose
bookkeeping takes a tenth of what is left.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedsieve.learning._chain import walk, written
from fedsieve.learning._work import Forward
from fedsieve.learning.losses import cross_entropy


class LinearSteps:
    """In-place steps of a model whose only parameters are those of linear layers in a chain.

    Args:
        layers: The model's `chain`; its parameters are what a step changes.
        forward: Gives the samples' losses, in float32.
    """

    def __init__(self, layers: Sequence[nn.Module], forward: Forward) -> None:
        self._layers = layers
        self._forward = forward
        self._written = forward.loss is cross_entropy and written(layers)

    def step(self, x: Tensor, y: Tensor, lr: float) -> None:
        """Theta <- theta - lr g, with g the gradient of the mean loss of samples x, targets y."""
        flat = self._written and y.ndim == 1
        for layer, a, delta in self._by_hand(x, y) if flat else self._by_autograd(x, y):
            rows = delta.flatten(0, -2)
            with torch.no_grad():
                layer.weight.addmm_(rows.T, a.flatten(0, -2), alpha=-lr / len(x))
                if layer.bias is not None:
                    layer.bias.add_(rows.sum(0), alpha=-lr / len(x))

    def _by_hand(self, x: Tensor, y: Tensor) -> list[tuple[nn.Linear, Tensor, Tensor]]:
        """Each linear layer with its inputs and deltas, from the written derivatives."""

        def start(z: Tensor) -> Tensor:
            delta = z.softmax(1)  # of -log softmax(z)_y: softmax(z) - 1_y
            return delta.scatter_add_(1, y[:, None], delta.new_full((len(y), 1), -1.0))

        return walk(
            self._layers,
            x,
            forward=lambda layer, a: layer(a),
            start=start,
            backward=lambda layer, delta: delta @ layer.weight,
        )

    def _by_autograd(self, x: Tensor, y: Tensor) -> list[tuple[nn.Linear, Tensor, Tensor]]:
        """The same for any loss and activations."""
        reached: list[tuple[nn.Linear, Tensor, Tensor]] = []

        def run(inputs: Tensor) -> Tensor:
            for layer in self._layers:
                if not isinstance(layer, nn.Linear):
                    inputs = layer(inputs)
                    continue
                outputs = functional.linear(inputs, layer.weight, layer.bias)
                if not outputs.requires_grad:
                    outputs.requires_grad_()  # the first one is the leaf of the graph
                reached.append((layer, inputs.detach(), outputs))
                inputs = outputs
            return inputs

        with torch.enable_grad():
            losses = self._forward(run, x, y)
        deltas = torch.autograd.grad(
            losses, [out for _, _, out in reached], torch.ones_like(losses)
        )
        return [(layer, a, delta) for (layer, a, _), delta in zip(reached, deltas, strict=True)]
