"""Closed form of ``nn.Conv1d``, ``Conv2d`` and ``Conv3d``: a linear layer on unfolded patches.

With the patches of a sample as rows R (T, channels * kernel), the weight's gradient is L R where
L (outputs, T) is the derivative by the T output positions.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from fedsieve.learning.layers._bilinear import Bilinear
from fedsieve.learning.layers._factors import Factor, Rows


def convolution(
    layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, a: Tensor, delta: Tensor
) -> dict[str, Factor]:
    """Weight: sum over positions of delta patch^T; bias: sum over positions of delta."""
    if any(layer._reversed_padding_repeated_twice):
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        a = functional.pad(a, layer._reversed_padding_repeated_twice, mode=mode)
    groups, kernel = layer.groups, layer.kernel_size
    patches = _patches(a, kernel, layer.stride, layer.dilation, tuple(delta.shape[2:]))
    inputs = layer.weight[0].numel()

    def right(lo: int, hi: int) -> Tensor:
        return patches[lo:hi].reshape((hi - lo) * groups, inputs, -1).transpose(1, 2)

    left = delta.reshape(len(a) * groups, layer.out_channels // groups, -1)
    factors: dict[str, Factor] = {"weight": Bilinear(left, right, inputs, groups)}
    if layer.bias is not None:
        factors["bias"] = Rows(delta.flatten(2).sum(2))
    return factors


def _patches(
    a: Tensor,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    places: tuple[int, ...],
) -> Tensor:
    """A view (B, channels, *kernel, *places) of the padded input; copying it unfolds it.

    With the places last a copy moves whole lines: 2 to 9 times faster than ``functional.unfold``.
    """
    step = a.stride()[2:]
    within = tuple(s * r for s, r in zip(step, dilation, strict=True))
    between = tuple(s * r for s, r in zip(step, stride, strict=True))
    return a.as_strided(
        (*a.shape[:2], *kernel, *places), (*a.stride()[:2], *within, *between), a.storage_offset()
    )
