"""ResNet-18 for small images, with GroupNorm.

K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition", CVPR 2016, in the
form used for 32x32 images: a 3x3 first convolution and no first pooling. Batch normalisation mixes
samples and is replaced by GroupNorm (Y. Wu, K. He, "Group normalization", ECCV 2018).

A block computes relu(x' + N(C(relu(N(C x))))), where x' = x, or N(C_1x1 x) where the shape changes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedsieve.learning.models._front import image
from fedsieve.learning.models._initialise import built
from fedsieve.registry import register

STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))
"""Channels and first stride of the four pairs of blocks."""


class Block(nn.Module):
    """Two 3x3 convolutions and a way around them."""

    def __init__(self, inputs: int, channels: int, stride: int, groups: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(inputs, channels, 3, stride, padding=1, bias=False),
            nn.GroupNorm(groups, channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.GroupNorm(groups, channels),
        )
        self.around: nn.Module = nn.Identity()
        if stride != 1 or inputs != channels:
            self.around = nn.Sequential(
                nn.Conv2d(inputs, channels, 1, stride, bias=False),
                nn.GroupNorm(groups, channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, h, w) -> (B, channels, h / stride, w / stride)."""
        return torch.relu(self.around(x) + self.inner(x))


@register("model", "resnet18", paper="He et al., CVPR 2016")
def resnet18(
    input_shape: tuple[int, ...],
    outputs: int,
    generator: torch.Generator | None = None,
    groups: int = 32,
) -> nn.Module:
    """ResNet-18 with a 3x3 stem and GroupNorm, for images of about 32x32.

    Args:
        input_shape: Shape (channels, height, width) of an image, at least 8x8.
        outputs: Number of classes; 1 for a regression.
        generator: Source of the initial parameters; ``None`` uses the system's entropy.
        groups: Groups of every GroupNorm, a divisor of 64.

    Raises:
        ValueError: Not an image, a smaller one, or another number of groups.
    """
    channels, _, _ = image("resnet18", input_shape, 8)
    if groups not in (1, 2, 4, 8, 16, 32, 64):
        raise ValueError(f"groups={groups} must be a divisor of 64: 1, 2, 4, 8, 16, 32 or 64")

    def make() -> nn.Module:
        layers: list[nn.Module] = [
            nn.Conv2d(channels, 64, 3, padding=1, bias=False),
            nn.GroupNorm(groups, 64),
            nn.ReLU(),
        ]
        inputs = 64
        for maps, stride in STAGES:
            layers += [Block(inputs, maps, stride, groups), Block(maps, maps, 1, groups)]
            inputs = maps
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, outputs)]
        return nn.Sequential(*layers, *head)

    return built(make, generator)
