"""From a record of any shape to one row of features."""

from __future__ import annotations

import math

from torch import nn


def rows_of(
    input_shape: tuple[int, ...], vocabulary: int, embedding: int
) -> tuple[list[nn.Module], int]:
    """Layers that turn a record into a row, and the length of the row.

    Records of tokens (``vocabulary`` > 0) are looked up in a table first.
    """
    size = math.prod(input_shape)
    if vocabulary:
        return [nn.Embedding(vocabulary, embedding), nn.Flatten()], size * embedding
    return [nn.Flatten()], size


def image(name: str, input_shape: tuple[int, ...], smallest: int) -> tuple[int, int, int]:
    """The shape as (channels, height, width).

    Raises:
        ValueError: Not an image, or one that is too small.
    """
    if len(input_shape) != 3 or min(input_shape[1:]) < smallest:
        raise ValueError(
            f"{name} needs images (channels, height, width) of at least {smallest}x{smallest}; "
            f"input_shape={input_shape}"
        )
    channels, height, width = input_shape
    return channels, height, width
