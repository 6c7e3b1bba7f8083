"""Max pooling at up to twice the speed, to the same bits.

On a CPU torch's max pooling is vectorised where the channels come last, and only there. So a copy
laid out that way tells where the maxima are; the values are then read from the input itself.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

LANES = 8  # channels, and
WORTH = 1 << 15  # numbers, from which the detour pays


class QuickMaxPool2d(nn.MaxPool2d):
    """What ``nn.MaxPool2d`` is, found faster on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        """The maxima (B, C, height, width) of the windows of x (B, C, ., .)."""
        if x.device.type != "cpu" or x.ndim != 4 or x.shape[1] < LANES or x.numel() < WORTH:
            plain: Tensor = super().forward(x)
            return plain
        with torch.no_grad():
            last = x.movedim(1, -1).contiguous().movedim(-1, 1)
            _, places = functional.max_pool2d(
                last,
                self.kernel_size,
                self.stride,
                self.padding,
                self.dilation,
                self.ceil_mode,
                return_indices=True,
            )
        return x.flatten(2).gather(2, places.flatten(2)).view(places.shape)


def quicken(module: nn.Module) -> None:
    """Let a module's own max poolings, in place, be found faster."""
    for part in module.modules():
        if type(part) is nn.MaxPool2d and not part.return_indices:
            part.__class__ = QuickMaxPool2d
