"""Where each parameter lies in the flat vector, and how a shared linear map acts on each layer.

A *projection* R^d -> R^k that acts layer by layer is described by one `LayerMap` per parameter
tensor. This is all that per-sample clipping has to know of a projection: with the map of a layer in
hand, the norm of a sample's projected gradient follows from the layer's input and output gradient,
and no per-sample gradient is ever built. The protocol `Subspace` is the only door between this room
and `fedsieve.compression`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Slot:
    """One parameter tensor inside the flat vector: ``theta[start:stop].view(shape)``."""

    name: str
    shape: tuple[int, ...]
    start: int

    @property
    def size(self) -> int:
        """Number of parameters."""
        return math.prod(self.shape)

    @property
    def stop(self) -> int:
        """Position behind the last parameter."""
        return self.start + self.size

    @property
    def matrix(self) -> tuple[int, int]:
        """Shape (outputs, inputs) of the tensor as a matrix; a vector is (size, 1)."""
        rows = self.shape[0] if self.shape else 1
        return rows, self.size // max(rows, 1)


@dataclass(frozen=True)
class Layout:
    """The table of a model's parameter tensors, and the shape of one input."""

    slots: tuple[Slot, ...]
    input_shape: tuple[int, ...]

    @property
    def d(self) -> int:
        """Number of model parameters."""
        return self.slots[-1].stop if self.slots else 0


@dataclass(frozen=True)
class Keep:
    """Every number of the slot goes into the message."""

    def width(self, slot: Slot) -> int:
        """Numbers that the slot contributes to the message."""
        return slot.size


@dataclass(frozen=True)
class InputBasis:
    """The slot's matrix G (outputs, inputs) goes to G @ basis, basis (inputs, r)."""

    basis: Tensor

    def width(self, slot: Slot) -> int:
        """Numbers that the slot contributes to the message."""
        return slot.matrix[0] * self.basis.shape[1]


@dataclass(frozen=True)
class Entries:
    """The numbers at the given sorted positions of the slot, int64 (w,), go into the message."""

    index: Tensor

    def width(self, slot: Slot) -> int:  # noqa: ARG002 - one signature for the three maps
        """Numbers that the slot contributes to the message."""
        return int(self.index.numel())


LayerMap = Keep | InputBasis | Entries


class Subspace(Protocol):
    """A projection as planned for a round: the linear map R^d -> R^k and its way back."""

    @property
    def d(self) -> int:
        """Number of model parameters."""
        ...

    @property
    def k(self) -> int:
        """Number of numbers in a message."""
        ...

    @property
    def maps(self) -> tuple[LayerMap, ...] | None:
        """One map per slot, in the layout's order; ``None`` if the projection mixes layers."""
        ...

    def project(self, x: Tensor) -> Tensor:
        """Project (..., d) to (..., k)."""
        ...

    def lift(self, y: Tensor) -> Tensor:
        """Lift (..., k) to (..., d)."""
        ...

    def to(self, device: torch.device) -> Subspace:
        """The same map with its tensors on a device."""
        ...
