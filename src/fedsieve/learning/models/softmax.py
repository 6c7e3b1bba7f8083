"""Softmax regression: scores W x + b."""

from __future__ import annotations

import torch
from torch import nn

from fedsieve.learning.models._front import rows_of
from fedsieve.learning.models._initialise import built
from fedsieve.registry import register


@register("model", "softmax")
def softmax(
    input_shape: tuple[int, ...],
    outputs: int,
    generator: torch.Generator | None = None,
    vocabulary: int = 0,
    embedding: int = 8,
) -> nn.Module:
    """Softmax regression, a linear model (with one output: linear regression).

    Args:
        input_shape: Shape of a record.
        outputs: Number of classes; 1 for a regression.
        generator: Source of the initial parameters; ``None`` uses the system's entropy.
        vocabulary: Number of tokens, if records are tokens (int64).
        embedding: Length of a token's row.
    """

    def make() -> nn.Module:
        front, size = rows_of(input_shape, vocabulary, embedding)
        return nn.Sequential(*front, nn.Linear(size, outputs))

    return built(make, generator)
