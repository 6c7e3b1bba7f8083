"""A round as an attacker sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from fedsieve.poisoning import Scene


@pytest.fixture
def scene() -> Callable[..., Scene]:
    """Makes a scene of random honest messages."""

    def make(
        h: int = 8,
        f: int = 2,
        k: int = 5,
        *,
        seed: int = 0,
        offset: float = 0.5,
        dtype: torch.dtype = torch.float64,
        **more: Any,
    ) -> Scene:
        rng = np.random.default_rng(seed)
        honest = torch.from_numpy(rng.normal(offset, 1, (h, k))).to(dtype)
        own = torch.from_numpy(rng.normal(offset, 1, (f, k))).to(dtype)
        last, model = (torch.from_numpy(rng.normal(0, 1, k)).to(dtype) for _ in range(2))
        settings = {
            "honest": honest,
            "f": f,
            "aggregate": lambda stack: stack.mean(dim=0),
            "rng": np.random.default_rng(seed + 1),
            "own": own,
            "noise_std": 0.1,
            "last": last,
            "model": model,
        }
        return Scene(**(settings | more))

    return make
