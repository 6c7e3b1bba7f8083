"""The numbers as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from fedsieve.compression.codecs._numbers import to_numpy, to_tensor
from fedsieve.compression.codecs.wire import (
    HEADER,
    Code,
    Header,
    Type,
    frame,
    require_finite,
    require_length,
    unframe,
)
from fedsieve.registry import register


@register("codec", "raw32")
@dataclass(frozen=True)
class Raw32:
    """Every number as float32; nothing is lost.

    Example:
        >>> import torch
        >>> code, x = Raw32(), torch.tensor([1.0, -2.5])
        >>> wire = code.encode(x, np.random.default_rng(0))
        >>> len(wire), code.decode(wire)
        (32, tensor([ 1.0000, -2.5000]))
    """

    lossless: ClassVar[bool] = True
    data_dependent: ClassVar[bool] = False

    def encode(self, x: Tensor, key: np.random.Generator) -> bytes:  # noqa: ARG002 - no dither
        """The bytes of a vector (k,)."""
        numbers = to_numpy(x)
        size = len(numbers)
        return frame(
            Header(Code.RAW, Type.FLOAT32, size, size),
            np.ascontiguousarray(numbers).view(np.uint8).data,
        )

    def decode(self, data: bytes, size: int | None = None) -> Tensor:
        """The vector (k,).

        Raises:
            WireError: Not such a message, of another size, or not finite.
        """
        header, body = unframe(data, Code.RAW, Type.FLOAT32, size)
        require_length(body, 4 * header.size)
        return to_tensor(require_finite(np.frombuffer(body, "<f4")))

    def omega(self, d: int) -> float:  # noqa: ARG002
        """Nothing is lost: 0."""
        return 0.0

    def alpha(self, d: int) -> float:  # noqa: ARG002
        """Nothing is lost: 1."""
        return 1.0

    def wire_bits(self, d: int) -> int:
        """32 bits a number and the header."""
        return 8 * HEADER.size + 32 * d
