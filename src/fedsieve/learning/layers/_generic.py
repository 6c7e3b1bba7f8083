"""A layer without a closed form: ``torch.func`` on that layer alone, given its output's derivative.

Far cheaper than ``vmap(grad)`` of the whole model, whose other layers keep their closed forms.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fedsieve.learning.layers._factors import Factor, Rows


def generic(layer: nn.Module, a: Tensor, delta: Tensor) -> dict[str, Factor]:
    """Per-sample vector-Jacobian products of any module that maps one tensor to one tensor.

    Args:
        layer: The module.
        a: What went in, (B, ...).
        delta: The derivative of the summed loss by what came out, (B, ...).

    Returns:
        The gradients, each (B, size of the parameter), by the parameter's name.
    """
    parameters = {name: p.detach() for name, p in layer.named_parameters()}

    def pull(one: Tensor, derivative: Tensor) -> dict[str, Tensor]:
        def output(values: dict[str, Tensor]) -> Tensor:
            result: Tensor = torch.func.functional_call(layer, values, (one.unsqueeze(0),))
            return result

        _, back, *_ = torch.func.vjp(output, parameters)
        gradients: dict[str, Tensor] = back(derivative.unsqueeze(0))[0]
        return gradients

    gradients = vmapped(pull, 0)(a, delta)
    return {name: Rows(g.reshape(len(a), -1)) for name, g in gradients.items()}


def vmapped(function: Callable[..., Any], in_dims: Any) -> Callable[..., Any]:
    """``torch.func.vmap`` without its warnings about operations that it runs one by one.

    Who takes this slow path has been told so already, in words about their model.

    Args:
        function: What is done with one sample.
        in_dims: The dimension of the samples in each argument, as ``torch.func.vmap`` takes it.
    """
    each = torch.func.vmap(function, in_dims, randomness="different")

    def run(*arguments: Any) -> Any:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "There is a performance drop")
            return each(*arguments)

    return run
