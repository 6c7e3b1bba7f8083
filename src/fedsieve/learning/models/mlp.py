"""Multi-layer perceptron."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import nn

from fedsieve.learning.models._front import rows_of
from fedsieve.learning.models._initialise import built
from fedsieve.registry import register

Activation = Literal["relu", "tanh", "sigmoid"]


@register("model", "mlp")
def mlp(
    input_shape: tuple[int, ...],
    outputs: int,
    hidden: tuple[int, ...] = (64,),
    generator: torch.Generator | None = None,
    vocabulary: int = 0,
    embedding: int = 8,
    activation: Activation = "relu",
) -> nn.Module:
    """Multi-layer perceptron: linear layers with ReLU, tanh or sigmoid between them.

    Args:
        input_shape: Shape of a record.
        outputs: Number of classes; 1 for a regression.
        hidden: Width of each hidden layer, >= 1.
        generator: Source of the initial parameters; ``None`` uses the system's entropy.
        vocabulary: Number of tokens, if records are tokens (int64).
        embedding: Length of a token's row.
        activation: What the hidden units do: ``relu``, ``tanh`` or ``sigmoid``.

    Raises:
        ValueError: A width below 1, or another activation.

    Example:
        >>> sum(p.numel() for p in mlp((1, 28, 28), 10, hidden=(256,)).parameters())
        203530
    """
    if min(hidden, default=1) < 1:
        raise ValueError(f"hidden={hidden}: every width must be at least 1")
    units = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}
    if activation not in units:
        allowed = ", ".join(get_args(Activation))
        raise ValueError(f"activation={activation!r} is not one of {allowed}")

    def make() -> nn.Module:
        layers, size = rows_of(input_shape, vocabulary, embedding)
        for width in hidden:
            layers += [nn.Linear(size, width), units[activation]()]
            size = width
        return nn.Sequential(*layers, nn.Linear(size, outputs))

    return built(make, generator)
