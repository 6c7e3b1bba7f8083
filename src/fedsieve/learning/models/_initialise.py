"""Initial parameters from an explicit generator, by PyTorch's default laws.

Modules are built on the "meta" device, where nothing is drawn, so that no global generator is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

_NORMS = (nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


def built(make: Callable[[], nn.Module], generator: torch.Generator | None) -> nn.Module:
    """Make a module and draw its parameters; ``None`` draws from the system's entropy."""
    with torch.device("meta"):
        module = make()
    return initialise(module.to_empty(device="cpu"), generator)


def initialise(module: nn.Module, generator: torch.Generator | None = None) -> nn.Module:
    """Draw the parameters of a module's layers again, in place, and return it.

    Linear and convolution layers: uniform +-1/sqrt(fan_in), weight and bias; normalisation layers:
    1 and 0; embeddings: standard normal, the padding row 0; PReLU: 0.25.

    Args:
        module: Any module made of such layers.
        generator: Source of the draws; ``None`` draws its seed from the system's entropy.

    Raises:
        TypeError: A layer with parameters whose law is not known here.
    """
    if generator is None:
        generator = torch.Generator()
        generator.seed()
    with torch.no_grad():
        for name, layer in module.named_modules():
            own = dict(layer.named_parameters(recurse=False))
            if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
                bound = 1 / math.sqrt(max(1, layer.weight[0].numel()))
                for parameter in own.values():
                    parameter.uniform_(-bound, bound, generator=generator)
            elif isinstance(layer, nn.Embedding):
                layer.weight.normal_(generator=generator)
                if layer.padding_idx is not None:
                    layer.weight[layer.padding_idx] = 0.0
            elif isinstance(layer, _NORMS):
                for kind, parameter in own.items():
                    parameter.fill_(1.0 if kind == "weight" else 0.0)
            elif isinstance(layer, nn.PReLU):
                layer.weight.fill_(0.25)
            elif own:
                raise TypeError(
                    f"layer {name or '(root)'!r} is {type(layer).__name__}, whose initial law is "
                    "not known; give its parameters values before passing the module"
                )
    return module
