"""The trigger of an image backdoor: a square of bright pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from fedsieve._arguments import choice, integer
from fedsieve.poisoning.attack import Records
from fedsieve.poisoning.backdoor import check_class, chosen

Position = Literal["top-left", "top-right", "bottom-left", "bottom-right", "center"]
"""Where in the image a trigger is."""


@dataclass(frozen=True)
class Patch:
    """A square of pixels that are as bright as the brightest of the data.

    Args:
        size: Its edge in pixels, >= 1.
        position: Where it is.

    Raises:
        ValueError: ``size`` or ``position`` is not allowed.

    Example:
        >>> Patch(2, "top-left").stamp(torch.zeros(1, 3, 3, dtype=torch.uint8), 9)[0].tolist()
        [[9, 9, 0], [9, 9, 0], [0, 0, 0]]
    """

    size: int = 4
    position: Position = "bottom-right"

    def __post_init__(self) -> None:
        integer(self, "size", 1)
        choice(self, "position", get_args(Position))

    def stamp(self, images: Tensor, bright: int, part: int = 0, parts: int = 1) -> Tensor:
        """Copies of the images with the patch drawn in.

        Args:
            images: Images (N, H, W) or (N, C, H, W).
            bright: Value of the patch.
            part: Which part of it to draw, 0 <= part < parts.
            parts: Number of parts, runs of pixels row by row, <= size^2.
        """
        row, column = self._corner(*images.shape[-2:])
        pixels = np.array_split(np.arange(self.size**2), parts)[part]
        down, right = (torch.from_numpy(i) for i in np.divmod(pixels, self.size))
        stamped = images.clone()
        stamped[..., row + down, column + right] = bright
        return stamped

    def plant(
        self,
        own: Records,
        target: int,
        fraction: float,
        rng: np.random.Generator,
        part: int = 0,
        parts: int = 1,
    ) -> Records:
        """A share of the records with the patch, or a part of it, and the target as their label.

        Raises:
            ValueError: The records are no images of that size, or have no such class.
        """
        self._check(own, target)
        x, y = own.x.clone(), own.y.clone()
        at = chosen(len(y), fraction, rng).to(y.device)
        x[at] = self.stamp(x[at], _brightest(own), part, parts)
        y[at] = target
        return replace(own, x=x, y=y)

    def lures(self, test: Records, target: int) -> Tensor:
        """The test records of all other classes with the whole patch.

        Raises:
            ValueError: They are no images of that size, or have no other or no such class.
        """
        self._check(test, target)
        others = test.x[test.y != target]
        if not len(others):
            raise ValueError(f"target={target}: the test set has no record of another class")
        return self.stamp(others, _brightest(test))

    def _corner(self, height: int, width: int) -> tuple[int, int]:
        down, right = height - self.size, width - self.size
        if self.position == "center":
            return down // 2, right // 2
        vertical, horizontal = self.position.split("-")
        return down * (vertical == "bottom"), right * (horizontal == "right")

    def _check(self, records: Records, target: int) -> None:
        check_class("target", target, records.classes)
        shape = tuple(records.x.shape[1:])
        if records.x.dtype != torch.uint8 or len(shape) not in (2, 3):
            raise ValueError(
                f"an image trigger needs image data, uint8 of shape (height, width) or (channels, "
                f"height, width); these records are {records.x.dtype} of shape {shape}"
            )
        if self.size > min(shape[-2:]):
            raise ValueError(
                f"size={self.size}: the trigger must fit into images of {shape[-2]} x {shape[-1]} "
                f"pixels; allowed are 1..{min(shape[-2:])}"
            )


def _brightest(records: Records) -> int:
    return int(records.x.max())
