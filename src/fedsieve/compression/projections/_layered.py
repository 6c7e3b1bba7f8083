"""A subspace that acts layer by layer, and the way of a message from one such subspace to another.

The message is the concatenation, in the layout's order, of what each layer map leaves of its slot:
Keep the slot itself, InputBasis the matrix G Q row by row, Entries the chosen numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from fedsieve.learning.layout import (
    Entries,
    InputBasis,
    Keep,
    LayerMap,
    Layout,
    Slot,
    Subspace,
)


@dataclass(frozen=True, eq=False)
class LayeredSubspace:
    """The linear map A: R^d -> R^k given by one map per slot; the lift is its transpose.

    Args:
        layout: The model's table of parameters.
        maps: One map per slot; the columns of a basis are orthonormal.
        unbiased: Whether E lift(project(x)) = x over the draw of the subspace.

    Raises:
        ValueError: Not one map per slot, or a map that does not fit its slot.

    Example:
        >>> layout = Layout((Slot("w", (2, 3), 0), Slot("b", (2,), 6)), (3,))
        >>> subspace = LayeredSubspace(layout, (Entries(torch.tensor([0, 4])), Keep()))
        >>> subspace.k, subspace.project(torch.arange(8.0))
        (4, tensor([0., 4., 6., 7.]))
    """

    layout: Layout
    maps: tuple[LayerMap, ...]
    unbiased: bool = False

    def __post_init__(self) -> None:
        if len(self.maps) != len(self.layout.slots):
            raise ValueError(
                f"maps has {len(self.maps)} entries; the model has {len(self.layout.slots)} slots"
            )
        for slot, layer_map in zip(self.layout.slots, self.maps, strict=True):
            match layer_map:
                case InputBasis(basis) if basis.shape[0] != slot.matrix[1]:
                    raise ValueError(
                        f"slot {slot.name!r} has {slot.matrix[1]} inputs; "
                        f"its basis has {basis.shape[0]} rows"
                    )
                case Entries(index) if len(index) and not 0 <= int(index[-1]) < slot.size:
                    raise ValueError(
                        f"slot {slot.name!r} has {slot.size} numbers; entry {int(index[-1])} "
                        "is none of them"
                    )

    @property
    def d(self) -> int:
        """Number of model parameters."""
        return self.layout.d

    @cached_property
    def k(self) -> int:
        """Number of numbers in a message."""
        return sum(self._widths)

    @cached_property
    def spectral_norm(self) -> float:
        """||A||_2, the largest factor by which projecting stretches a vector."""
        norms = [
            float(torch.linalg.matrix_norm(m.basis.double(), 2))
            if isinstance(m, InputBasis)
            else float(m.width(slot) > 0)
            for slot, m in zip(self.layout.slots, self.maps, strict=True)
        ]
        return max(norms, default=0.0)

    def project(self, x: Tensor) -> Tensor:
        """Project (..., d) to (..., k); the identity returns ``x`` itself.

        Raises:
            ValueError: The last dimension is not d.
        """
        self._check(x, self.d, "d")
        if is_identity(self):
            return x
        parts = _split(x, [slot.size for slot in self.layout.slots])
        return torch.cat([_project(m, s, part) for m, s, part in self._zip(parts)], dim=-1)

    def lift(self, y: Tensor) -> Tensor:
        """Lift (..., k) to (..., d); the identity returns ``y`` itself.

        Raises:
            ValueError: The last dimension is not k.
        """
        self._check(y, self.k, "k")
        if is_identity(self):
            return y
        parts = _split(y, self._widths)
        return torch.cat([_lift(m, s, part) for m, s, part in self._zip(parts)], dim=-1)

    def to(self, device: torch.device | str) -> LayeredSubspace:
        """The same subspace with its bases and positions on a device."""
        return replace(self, maps=tuple(_to(m, torch.device(device)) for m in self.maps))

    @cached_property
    def _widths(self) -> list[int]:
        return [m.width(s) for s, m in zip(self.layout.slots, self.maps, strict=True)]

    def _zip(self, parts: tuple[Tensor, ...]) -> list[tuple[LayerMap, Slot, Tensor]]:
        return list(zip(self.maps, self.layout.slots, parts, strict=True))

    def _check(self, x: Tensor, size: int, name: str) -> None:
        if x.ndim == 0 or x.shape[-1] != size:
            raise ValueError(f"vectors of shape {tuple(x.shape)} do not end in {name}={size}")


def is_identity(subspace: Subspace) -> bool:
    """Whether the subspace is R^d itself, in its own coordinates."""
    return subspace.maps is not None and all(isinstance(m, Keep) for m in subspace.maps)


def carry(layout: Layout, old: Subspace, new: Subspace, y: Tensor) -> Tensor:
    """Take vectors (..., k_old) to the new subspace: new.project(old.lift(y)).

    Layer by layer, with r_old x r_new products where both have a basis; vectors of length d are
    built only for a subspace that mixes layers.

    Args:
        layout: The model's table of parameters.
        old: Where ``y`` lives.
        new: Where the result lives, (..., k_new).
        y: What to take along, such as the clients' momentum.
    """
    if old is new:
        return y
    if old.maps is None or new.maps is None:
        return new.project(old.lift(y))
    parts = _split(y, [m.width(s) for s, m in zip(layout.slots, old.maps, strict=True)])
    moved = [
        _carry(before, after, slot, part)
        for before, after, slot, part in zip(old.maps, new.maps, layout.slots, parts, strict=True)
    ]
    return torch.cat(moved, dim=-1)


def _to(layer_map: LayerMap, device: torch.device) -> LayerMap:
    match layer_map:
        case InputBasis(basis):
            return InputBasis(basis.to(device))
        case Entries(index):
            return Entries(index.to(device))
        case _:
            return layer_map


def _split(x: Tensor, sizes: list[int]) -> tuple[Tensor, ...]:
    return torch.functional.split(x, sizes, dim=-1)


def _matrices(x: Tensor, rows: int, columns: int) -> Tensor:
    return x.reshape(*x.shape[:-1], rows, columns)


def _project(layer_map: LayerMap, slot: Slot, x: Tensor) -> Tensor:
    match layer_map:
        case InputBasis(basis):
            return (_matrices(x, *slot.matrix) @ basis.to(x)).flatten(-2)
        case Entries(index):
            return x.index_select(-1, index.to(x.device))
        case _:
            return x


def _lift(layer_map: LayerMap, slot: Slot, y: Tensor) -> Tensor:
    match layer_map:
        case InputBasis(basis):
            matrix = _matrices(y, slot.matrix[0], basis.shape[1])
            return (matrix @ basis.to(y).T).flatten(-2)
        case Entries(index):
            x = y.new_zeros(*y.shape[:-1], slot.size)
            return x.index_copy_(-1, index.to(y.device), y)
        case _:
            return y


def _carry(old: LayerMap, new: LayerMap, slot: Slot, y: Tensor) -> Tensor:
    match old, new:
        case InputBasis(before), InputBasis(after):
            matrix = _matrices(y, slot.matrix[0], before.shape[1])
            return (matrix @ (before.to(y).T @ after.to(y))).flatten(-2)
        case Entries(before), Entries(after):
            z = y.new_zeros(*y.shape[:-1], len(after))
            if len(before) and len(after):
                place = torch.searchsorted(before, after).clamp_(max=len(before) - 1)
                held = torch.nonzero(before[place] == after).flatten()
                z[..., held.to(y.device)] = y[..., place[held].to(y.device)]
            return z
        case _:
            return _project(new, slot, _lift(old, slot, y))
