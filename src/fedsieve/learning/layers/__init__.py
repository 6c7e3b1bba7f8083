"""Closed forms of per-sample gradients, one file per group of layers.

A form takes a layer, its input and the derivative of the summed loss by its output, and gives one
`Factor` per parameter. `form_of` finds the form of a layer; `generic` serves every other layer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from fedsieve.learning.layers._convolution import convolution
from fedsieve.learning.layers._elementwise import channel_norm, layer_norm, prelu, rms_norm
from fedsieve.learning.layers._embedding import embedding
from fedsieve.learning.layers._factors import Factor as Factor
from fedsieve.learning.layers._factors import NoClosedFormError as NoClosedFormError
from fedsieve.learning.layers._factors import Positions as Positions
from fedsieve.learning.layers._factors import Projected as Projected
from fedsieve.learning.layers._factors import Rows as Rows
from fedsieve.learning.layers._factors import Segments as Segments
from fedsieve.learning.layers._factors import squared as squared
from fedsieve.learning.layers._generic import generic as generic
from fedsieve.learning.layers._generic import vmapped as vmapped
from fedsieve.learning.layers._linear import linear

__all__ = [
    "Factor",
    "Form",
    "NoClosedFormError",
    "Positions",
    "Projected",
    "Rows",
    "Segments",
    "form_of",
    "generic",
    "squared",
    "vmapped",
]

Form = Callable[[Any, Tensor, Tensor], dict[str, Factor]]

_FORMS: dict[type[nn.Module], Form] = {
    nn.Linear: linear,
    nn.Conv1d: convolution,
    nn.Conv2d: convolution,
    nn.Conv3d: convolution,
    nn.Embedding: embedding,
    nn.GroupNorm: channel_norm,
    nn.InstanceNorm1d: channel_norm,
    nn.InstanceNorm2d: channel_norm,
    nn.InstanceNorm3d: channel_norm,
    nn.LayerNorm: layer_norm,
    nn.RMSNorm: rms_norm,
    nn.PReLU: prelu,
}


def form_of(layer: nn.Module) -> Form | None:
    """The closed form of a layer; ``None`` if it has none.

    Args:
        layer: Any module. Its type must match exactly: a subclass may compute something else.
    """
    return _FORMS.get(type(layer))
