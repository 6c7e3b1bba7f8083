"""How a projection acts on the factors of each parameter tensor, prepared once per plan."""

from __future__ import annotations

import torch
from torch import Tensor

from fedsieve.learning.clipping import Clip
from fedsieve.learning.layers import Factor, Positions, Projected
from fedsieve.learning.layout import Entries, InputBasis, Keep, Layout, Subspace


class Plan:
    """The layer maps of a subspace, ready to be applied to one model's factors.

    Args:
        subspace: The projection of the round; ``None`` is the identity.
        layout: The model's table of parameters.

    Raises:
        ValueError: The subspace belongs to another model.
    """

    def __init__(self, subspace: Subspace | None, layout: Layout) -> None:
        self.subspace = subspace
        self.k = layout.d if subspace is None else subspace.k
        maps = None if subspace is None else subspace.maps
        self.mixes_layers = subspace is not None and maps is None
        if maps is None:
            maps = tuple(Keep() for _ in layout.slots)
        if subspace is not None and (subspace.d != layout.d or len(maps) != len(layout.slots)):
            raise ValueError(
                f"subspace has d={subspace.d} and {len(maps)} layer maps; the model has "
                f"d={layout.d} and {len(layout.slots)} parameter tensors"
            )
        self._actions: list[Tensor | Positions | None] = []
        self._widths: list[int] = []
        self._owners = [slot.name.rpartition(".")[0] for slot in layout.slots]
        for layer_map, slot in zip(maps, layout.slots, strict=True):
            self._widths.append(layer_map.width(slot))
            match layer_map:
                case InputBasis(basis):
                    self._actions.append(basis)
                case Entries(index):
                    self._actions.append(Positions(index, slot.matrix))
                case _:
                    self._actions.append(None)
        if not self.mixes_layers and sum(self._widths) != self.k:
            raise ValueError(f"the layer maps give {sum(self._widths)} numbers, not k={self.k}")

    def apply(self, factors: list[Factor]) -> list[Projected]:
        """Factors of the gradients -> factors of the projected gradients."""
        return [_mapped(f, action) for f, action in zip(factors, self._actions, strict=True)]

    def groups(self, clip: Clip | None) -> list[tuple[Clip | None, list[int]]]:
        """Which parameter tensors are clipped together, and how.

        The tensors of one layer (weight and bias) belong together. A layer that sends nothing has
        no share in the clip.

        Raises:
            ValueError: Layers are to be clipped apart, and the projection mixes them.
        """
        if clip is None or clip.form != "per-layer":
            return [(clip, list(range(len(self._owners))))]
        if self.mixes_layers:
            raise ValueError(
                "clipping='per-layer' needs a projection that keeps the layers apart, and "
                f"{type(self.subspace).__name__} mixes them; allowed are 'flat' and 'automatic'"
            )
        layers: dict[str, list[int]] = {}
        for i, (owner, width) in enumerate(zip(self._owners, self._widths, strict=True)):
            if width:
                layers.setdefault(owner, []).append(i)
        clips = clip.over([sum(self._widths[i] for i in layer) for layer in layers.values()])
        return list(zip(clips, layers.values(), strict=True))

    def parts(self, rows: Tensor, members: list[int]) -> tuple[Tensor, ...]:
        """The parts of rows (b, k) that belong to these parameter tensors, as views."""
        if len(members) == len(self._owners):
            return (rows,)
        columns = self.columns(rows)
        return tuple(columns[i] for i in members)

    def columns(self, sums: Tensor) -> tuple[Tensor, ...]:
        """The parts of messages (n, k) that belong to each parameter tensor, as views."""
        return torch.split_with_sizes(sums, self._widths, dim=1)

    def project(self, rows: Tensor) -> Tensor:
        """Gradients that are built in full (b, d) -> (b, k)."""
        return rows if self.subspace is None else self.subspace.project(rows)


def _mapped(factor: Factor, action: Tensor | Positions | None) -> Projected:
    if action is None:
        return factor
    return factor.at(action) if isinstance(action, Positions) else factor.on_basis(action)
