"""The form of a codec: one vector to bytes and back, with facts that the tests measure."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from torch import Tensor


class Codec(Protocol):
    """Codes one vector of k numbers.

    With C(x) = decode(encode(x)), over the draw of the key:

    * omega: E C(x) = x and E||C(x) - x||^2 <= omega ||x||^2; infinite for a biased code;
    * alpha: E||C(x) - x||^2 <= (1 - alpha) ||x||^2.
    """

    @property
    def lossless(self) -> bool:
        """Whether C(x) = x bit for bit."""
        ...

    @property
    def data_dependent(self) -> bool:
        """Whether which numbers are sent depends on x, which must then be private already."""
        ...

    def encode(self, x: Tensor, key: np.random.Generator) -> bytes:
        """Code a float32 vector (k,); the key is the public dither."""
        ...

    def decode(self, data: bytes, size: int | None = None) -> Tensor:
        """The float32 vector (k,); refuses other sizes than ``size`` where that is given.

        Raises:
            WireError: Not a message of this code, of another size, or not finite.
        """
        ...

    def omega(self, d: int) -> float:
        """Relative variance of an unbiased code for d numbers."""
        ...

    def alpha(self, d: int) -> float:
        """Contraction for d numbers."""
        ...

    def wire_bits(self, d: int) -> int:
        """Largest length of a coded vector of d numbers, header included."""
        ...
