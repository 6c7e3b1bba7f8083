"""A float32 vector as a numpy array, and back."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def to_numpy(x: Tensor) -> np.ndarray:
    """A vector as float32 in little-endian order, without a copy where that is possible.

    Raises:
        ValueError: Not a vector, or an empty one.
    """
    if x.ndim != 1 or not len(x):
        raise ValueError(f"a codec takes one vector (k,) with k >= 1; found shape {tuple(x.shape)}")
    return x.detach().to("cpu", torch.float32).numpy().astype("<f4", copy=False)


def to_tensor(numbers: np.ndarray) -> Tensor:
    """A tensor of its own memory in the machine's byte order."""
    return torch.from_numpy(numbers.astype(np.float32))
