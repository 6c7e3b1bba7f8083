"""The frame of a message on the wire: 24 bytes of header, then the body of its code.

    offset  bytes  meaning
         0      4  magic "FSV1"
         4      1  version of the format
         5      1  number of the code (`Code`)
         6      1  type of the numbers (`Type`)
         7      1  zero
         8      8  size: numbers in the vector, little endian
        16      8  count: numbers that the body holds, little endian

Everything is checked before anything is allocated, and nothing is ever unpickled: the sender may be
malicious.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

MAGIC = b"FSV1"
VERSION = 1
HEADER = struct.Struct("<4sBBBBQQ")
LARGEST = 2**33
"""No vector has more numbers than this (32 GiB as float32)."""


class Code(IntEnum):
    """What the body is; numbers are never reused."""

    RAW = 1
    TOP_K = 2
    INTEGERS = 32


class Type(IntEnum):
    """Type of a number."""

    FLOAT32 = 1
    BFLOAT16 = 2
    INTEGER = 32

    @property
    def width(self) -> int:
        """Bytes of one number; of integers code and receiver agree on the bits."""
        return {Type.FLOAT32: 4, Type.BFLOAT16: 2, Type.INTEGER: 0}[self]


class WireError(ValueError):
    """Bytes that are not a message of the expected kind."""


@dataclass(frozen=True)
class Header:
    """What the first 24 bytes say."""

    code: Code
    type: Type
    size: int
    count: int


def frame(header: Header, *body: bytes | memoryview) -> bytes:
    """A message's bytes."""
    fields = (MAGIC, VERSION, header.code, header.type, 0, header.size, header.count)
    return b"".join((HEADER.pack(*fields), *body))


def unframe(data: bytes, code: Code, kind: Type, size: int | None) -> tuple[Header, memoryview]:
    """The checked header and the body.

    Args:
        data: What arrived.
        code: The code that the receiver expects.
        kind: The type of number that the receiver expects.
        size: How many numbers the receiver expects, or ``None`` for any.

    Raises:
        WireError: What was found and what is expected.
    """
    if len(data) < HEADER.size:
        raise WireError(f"{len(data)} bytes are no message; the header alone has {HEADER.size}")
    magic, version, got_code, got_kind, zero, got_size, count = HEADER.unpack_from(data)
    for name, got, expected in (
        ("magic", magic, MAGIC),
        ("version", version, VERSION),
        ("code", got_code, int(code)),
        ("type", got_kind, int(kind)),
        ("byte 7", zero, 0),
        ("size", got_size, got_size if size is None else size),
    ):
        if got != expected:
            raise WireError(f"{name} is {got!r}, expected is {expected!r}")
    if got_size > LARGEST or count > got_size:
        raise WireError(f"size={got_size} and count={count}; count <= size <= {LARGEST} is needed")
    return Header(code, kind, got_size, count), memoryview(data)[HEADER.size :]


def require_length(body: memoryview, expected: int) -> None:
    """Refuse a body that is cut short or too long.

    Raises:
        WireError: With both lengths.
    """
    if len(body) != expected:
        raise WireError(f"the body has {len(body)} bytes, expected are {expected}")


def require_finite(numbers: np.ndarray) -> np.ndarray:
    """Refuse NaN and infinity.

    Raises:
        WireError: With the first such position.
    """
    finite = np.isfinite(numbers)
    if not finite.all():
        place = int(np.argmin(finite))
        raise WireError(f"number {place} is {numbers[place]}; only finite numbers are accepted")
    return numbers
