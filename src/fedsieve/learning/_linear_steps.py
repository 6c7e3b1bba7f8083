"""A step of SGD on a chain of linear layers without its gradient ever being a tensor.

The gradient of a batch's mean loss by a linear layer's weights is ``delta^T a / B``, with the
layer's inputs a (B, in) and the derivatives delta (B, out) by its outputs. One matrix product
subtracts it from the weights in place,

    W <- W - (lr / B) delta^T a,

where autograd would write it out and an optimiser read it again: a quarter of the time of a step.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedsieve.learning._work import Forward


class LinearSteps:
    """In-place steps of a model whose only parameters are those of linear layers in a chain.

    Args:
        layers: The model's `chain`; its parameters are what a step changes.
        forward: Gives the samples' losses, in float32.
    """

    def __init__(self, layers: Sequence[nn.Module], forward: Forward) -> None:
        self._layers = layers
        self._forward = forward

    def step(self, x: Tensor, y: Tensor, lr: float) -> None:
        """Theta <- theta - lr g, with g the gradient of the mean loss of samples x, targets y."""
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
            losses, [outputs for _, _, outputs in reached], torch.ones_like(losses)
        )
        scale = -lr / len(losses)
        with torch.no_grad():
            for (layer, a, _), delta in zip(reached, deltas, strict=True):
                rows = delta.flatten(0, -2)
                layer.weight.addmm_(rows.T, a.flatten(0, -2), alpha=scale)
                if layer.bias is not None:
                    layer.bias.add_(rows.sum(0), alpha=scale)


def chain(module: nn.Module) -> list[nn.Module] | None:
    """The module's layers in order; ``None`` if it is no chain whose parameters are all linear.

    Nothing but `torch.nn` itself runs in such a chain, so nothing else can use the weights.
    """
    if type(module) is nn.Sequential:
        layers: list[nn.Module] = []
        for part in module:
            inner = chain(part)
            if inner is None:
                return None
            layers += inner
        return None if _hooked(module) else layers
    plain = type(module).__module__.startswith("torch.nn.modules.") and not list(module.children())
    if not plain or _hooked(module):
        return None
    held = sum(1 for _ in module.parameters()) + sum(1 for _ in module.buffers())
    trained = {name for name, p in module.named_parameters() if p is not None}
    if type(module) is nn.Linear and "weight" in trained and held == len(trained):
        return [module]
    return None if held else [module]


def _hooked(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )
