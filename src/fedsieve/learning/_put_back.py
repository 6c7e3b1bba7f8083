"""What a module's trial run may touch, and how it is put back: attributes, buffers, generators."""

from __future__ import annotations

import pickle
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn


@contextmanager
def replayed(device: torch.device, draw: int = 0) -> Iterator[None]:
    """What is drawn from the global generators inside; they are left as they were found.

    Modules draw from them, whatever we do. Every block of the same ``draw`` draws the same.
    """
    own, numpys = random.getstate(), np.random.get_state()  # noqa: NPY002 - a module's, not ours
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            for _ in range(draw):
                random.random()  # noqa: S311 - moves on to other draws
                np.random.random()  # noqa: NPY002
                torch.rand(1), torch.rand(1, device=device)
            yield
    finally:
        random.setstate(own)
        np.random.set_state(numpys)  # noqa: NPY002


def states(device: torch.device) -> bytes:
    """The states of the global generators, to see whether something was drawn."""
    parts: Sequence[object] = (
        random.getstate(),
        np.random.get_state(),  # noqa: NPY002
        torch.get_rng_state().numpy(),
        torch.cuda.get_rng_state(device).numpy() if device.type == "cuda" else None,
    )
    return pickle.dumps(parts)


class Kept:
    """The buffers and other attributes of a module.

    Attributes may change, as long as no gradient shows it: many modules keep what they computed
    last for somebody to look at.
    """

    def __init__(self, part: nn.Module) -> None:
        self.attributes, self.buffers = dict(part.__dict__), dict(part._buffers)
        tensors = (*part.__dict__.values(), *part._buffers.values())
        self.values = [(t, t.detach().clone()) for t in tensors if isinstance(t, Tensor)]

    def restore(self, part: nn.Module) -> str:
        """Put everything back; the name of a buffer that had changed, or empty."""
        found = dict(part._buffers)
        old = {id(tensor): value for tensor, value in self.values}
        changed = [
            name
            for name in sorted(found.keys() | self.buffers.keys())
            if not _same(found.get(name), _value(self.buffers.get(name), old))
        ]
        part.__dict__.clear()
        part.__dict__.update(self.attributes)
        part._buffers.clear()
        part._buffers.update(self.buffers)
        for tensor, value in self.values:
            if not _same(tensor, value):
                tensor.detach().copy_(value)
        return changed[0] if changed else ""


def _value(buffer: Tensor | None, values: dict[int, Tensor]) -> Tensor | None:
    return None if buffer is None else values[id(buffer)]


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    """Equality to the bit but for the dtype; NaN is NaN."""
    if one is None or other is None:
        return one is other
    if one.shape != other.shape or one.device != other.device:
        return False
    return bool(((one == other) | ((one != one) & (other != other))).all())
