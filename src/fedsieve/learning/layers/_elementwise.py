"""Closed forms of parameters that act number by number: normalisation layers and ``nn.PReLU``.

With y = weight * z + bias and z the normalised input, the gradients are delta * z and delta, summed
over the places that share a parameter. They are as small as the parameter and are simply built.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from fedsieve.learning.layers._factors import Factor, Rows

ChannelNorm = nn.GroupNorm | nn.InstanceNorm1d | nn.InstanceNorm2d | nn.InstanceNorm3d


def channel_norm(layer: ChannelNorm, a: Tensor, delta: Tensor) -> dict[str, Factor]:
    """GroupNorm, and InstanceNorm as its extreme: one weight and bias per channel."""
    channels = a.shape[1]
    groups = layer.num_groups if isinstance(layer, nn.GroupNorm) else channels
    z = functional.group_norm(a, groups, eps=layer.eps)
    shape = (len(a), channels, -1)
    factors: dict[str, Factor] = {"weight": Rows((delta * z).reshape(shape).sum(2))}
    if layer.bias is not None:
        factors["bias"] = Rows(delta.reshape(shape).sum(2))
    return factors


def layer_norm(layer: nn.LayerNorm, a: Tensor, delta: Tensor) -> dict[str, Factor]:
    """One weight and bias per place of the normalised shape."""
    z = functional.layer_norm(a, layer.normalized_shape, eps=layer.eps)
    factors: dict[str, Factor] = {"weight": Rows(_over_places(delta * z, layer.weight))}
    if layer.bias is not None:
        factors["bias"] = Rows(_over_places(delta, layer.weight))
    return factors


def rms_norm(layer: nn.RMSNorm, a: Tensor, delta: Tensor) -> dict[str, Factor]:
    """One weight per place of the normalised shape."""
    z = functional.rms_norm(a, list(layer.normalized_shape), eps=layer.eps)
    return {"weight": Rows(_over_places(delta * z, layer.weight))}


def prelu(layer: nn.PReLU, a: Tensor, delta: Tensor) -> dict[str, Factor]:
    """For y = min(a, 0) weight + max(a, 0), with one weight in all or one per channel."""
    products = delta * a.clamp(max=0.0)
    return {"weight": Rows(products.reshape(len(a), layer.num_parameters, -1).sum(2))}


def _over_places(products: Tensor, parameter: Tensor) -> Tensor:
    return products.reshape(len(products), -1, parameter.numel()).sum(1)
