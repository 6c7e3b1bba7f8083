"""A chain of linear layers and activations, whose derivatives are written out.

    z_l = W_l a_(l-1) + b_l,    a_l = phi(z_l),    delta_l = phi'(z_l) W_(l+1)^T delta_(l+1)

Nothing but `torch.nn` itself runs in such a chain, so nothing else can use the weights, and
autograd has nothing to find out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Derivative = Callable[[Tensor, Tensor, Tensor], Tensor]

ACTIVATIONS: dict[type[nn.Module], Derivative] = {
    nn.ReLU: lambda delta, _, out: torch.ops.aten.threshold_backward(delta, out, 0),
    nn.Tanh: lambda delta, _, out: torch.ops.aten.tanh_backward(delta, out),
    nn.Sigmoid: lambda delta, _, out: torch.ops.aten.sigmoid_backward(delta, out),
    nn.Flatten: lambda delta, inputs, _: delta.view(inputs.shape),
    nn.Identity: lambda delta, _inputs, _: delta,
}
"""Layers without parameters: delta by their outputs, inputs, outputs -> delta by their inputs."""


def chain(module: nn.Module) -> list[nn.Module] | None:
    """The module's layers in order; ``None`` if it is no chain whose parameters are all linear."""
    if _altered(module):
        return None
    if type(module) is nn.Sequential:
        layers: list[nn.Module] = []
        for part in module:
            inner = chain(part)
            if inner is None:
                return None
            layers += inner
        return layers
    plain = type(module).__module__.startswith("torch.nn.modules.") and not list(module.children())
    if not plain:
        return None
    held = sum(1 for _ in module.parameters()) + sum(1 for _ in module.buffers())
    trained = {name for name, _ in module.named_parameters()}
    if type(module) is nn.Linear and "weight" in trained and held == len(trained):
        return [module]
    return None if held else [module]


def written(layers: Sequence[nn.Module]) -> bool:
    """Whether every layer has a derivative here."""
    return all(type(layer) is nn.Linear or type(layer) in ACTIVATIONS for layer in layers)


def walk(
    layers: Sequence[nn.Module],
    x: Tensor,
    *,
    forward: Callable[[nn.Linear, Tensor], Tensor],
    start: Callable[[Tensor], Tensor],
    backward: Callable[[nn.Linear, Tensor], Tensor],
) -> list[tuple[nn.Linear, Tensor, Tensor]]:
    """Each linear layer with its inputs a and the deltas of its outputs, from the last layer on.

    Args:
        layers: A chain that is `written`.
        x: Samples (B, ...).
        forward: A linear layer's outputs from its inputs.
        start: The delta of the last outputs from these.
        backward: The delta of a linear layer's inputs from that of its outputs.
    """
    with torch.no_grad():
        reached = [x]
        for layer in layers:
            a = reached[-1]
            reached.append(forward(layer, a) if isinstance(layer, nn.Linear) else layer(a))
        delta = start(reached[-1])
        first = next(i for i, layer in enumerate(layers) if type(layer) is nn.Linear)
        found: list[tuple[nn.Linear, Tensor, Tensor]] = []
        for i in range(len(layers) - 1, first - 1, -1):
            layer, a, out = layers[i], reached[i], reached[i + 1]
            if not isinstance(layer, nn.Linear):
                delta = ACTIVATIONS[type(layer)](delta, a, out)
                continue
            found.append((layer, a, delta))
            if i > first:
                delta = backward(layer, delta)
    return found


def _altered(module: nn.Module) -> bool:
    """Whether something else runs than the forward pass of its class."""
    return "forward" in vars(module) or bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )
