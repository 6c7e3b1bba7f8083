"""A layer without a closed form: ``torch.func`` on that layer alone, given its output's derivative.

Far cheaper than ``vmap(grad)`` of the whole model, whose other layers keep their closed forms.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedsieve.learning.layers._factors import Factor, Rows


def generic(layer: nn.Module, a: Tensor, delta: Tensor) -> dict[str, Factor]:
    """Per-sample vector-Jacobian products of any module that maps one tensor to one tensor."""
    parameters = {name: p.detach() for name, p in layer.named_parameters()}

    def pull(one: Tensor, derivative: Tensor) -> dict[str, Tensor]:
        def output(values: dict[str, Tensor]) -> Tensor:
            result: Tensor = torch.func.functional_call(layer, values, (one.unsqueeze(0),))
            return result

        _, back, *_ = torch.func.vjp(output, parameters)
        gradients: dict[str, Tensor] = back(derivative.unsqueeze(0))[0]
        return gradients

    gradients = torch.func.vmap(pull, randomness="different")(a, delta)
    return {name: Rows(g.reshape(len(a), -1)) for name, g in gradients.items()}
