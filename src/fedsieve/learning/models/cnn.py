"""Small convolutional network: two 5x5 convolutions and two linear layers.

Conv c-16, [GroupNorm], ReLU, MaxPool 2, Conv 16-32, [GroupNorm], ReLU, MaxPool 2, Linear 256,
ReLU, Linear. Without the normalisation and for 28x28 grey images it has 147,146 parameters.
"""

from __future__ import annotations

import torch
from torch import nn

from fedsieve.learning.models._front import image
from fedsieve.learning.models._initialise import built
from fedsieve.registry import register

PADDED_BELOW = 16
"""Two 5x5 convolutions without padding and two halvings need 16x16; smaller images are padded."""


@register("model", "cnn")
def cnn(
    input_shape: tuple[int, ...],
    outputs: int,
    generator: torch.Generator | None = None,
    groups: int = 8,
) -> nn.Module:
    """Two 5x5 convolutions with GroupNorm, then two linear layers.

    Args:
        input_shape: Shape (channels, height, width) of an image, at least 4x4.
        outputs: Number of classes; 1 for a regression.
        generator: Source of the initial parameters; ``None`` uses the system's entropy.
        groups: Groups of the GroupNorm after each convolution, a divisor of 16; 0 leaves it out.

    Raises:
        ValueError: Not an image, a smaller one, or another number of groups.
    """
    channels, height, width = image("cnn", input_shape, 4)
    if groups not in (0, 1, 2, 4, 8, 16):
        raise ValueError(f"groups={groups} must be 0 or a divisor of 16: 1, 2, 4, 8 or 16")
    padding = 2 if min(height, width) < PADDED_BELOW else 0

    def block(inputs: int, maps: int) -> list[nn.Module]:
        norm: list[nn.Module] = [nn.GroupNorm(groups, maps)] if groups else []
        return [nn.Conv2d(inputs, maps, 5, padding=padding), *norm, nn.ReLU(), nn.MaxPool2d(2)]

    def halved_twice(side: int) -> int:
        lost = 4 - 2 * padding
        return ((side - lost) // 2 - lost) // 2

    def make() -> nn.Module:
        size = 32 * halved_twice(height) * halved_twice(width)
        head = [nn.Flatten(), nn.Linear(size, 256), nn.ReLU(), nn.Linear(256, outputs)]
        return nn.Sequential(*block(channels, 16), *block(16, 32), *head)

    return built(make, generator)
