"""Where to perturb: the directions p of Shejwalkar and Houmansadr (NDSS 2021), and two more.

With mu and s the coordinatewise mean and standard deviation of the honest messages,

    mean    -mu / ||mu||        inverse unit vector
    sign    -sign(mu)           inverse sign
    std     -s                  inverse standard deviation
    own     -x / ||x||          against the mean x of the malicious clients' own honest messages
    random  s * N(0, I)         a draw that has nothing to do with learning
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fedsieve.poisoning.attack import deviation, unit

Direction = Literal["mean", "sign", "std"]
AnyDirection = Literal["mean", "sign", "std", "own", "random"]


def perturbation(direction: Direction, messages: Tensor) -> Tensor:
    """A published direction p (k,), estimated from messages (m, k)."""
    mean = messages.mean(dim=0)
    if direction == "mean":
        return -unit(mean)
    if direction == "sign":
        return -mean.sign()
    return -deviation(messages, mean)


def gaussian(rng: np.random.Generator, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Standard normal numbers with the type and device of ``like``."""
    return torch.from_numpy(rng.standard_normal(shape)).to(like)
