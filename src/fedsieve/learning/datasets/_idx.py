"""The IDX format of MNIST and its relatives.

Big-endian: two zero bytes, the element type (8 for uint8), the number of dimensions, then each
dimension as 32 bits, then the elements, the last dimension fastest.
"""

from __future__ import annotations

import struct

import numpy as np
import torch

from fedsieve.learning.data import Dataset
from fedsieve.learning.datasets._files import Contents, DataError
from fedsieve.learning.datasets._places import sentence

TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
_UINT8 = 8


def parse_idx(content: bytearray, ndim: int, place: str) -> np.ndarray:
    """The array in an IDX file, uint8, without a copy.

    Args:
        content: The whole uncompressed file.
        ndim: Number of dimensions that it must have: 3 for images, 1 for labels.
        place: Name of the file, for the message.

    Raises:
        DataError: Wrong magic number, or more or fewer elements than the header says; with the
            file and the offset.
    """
    header = 4 + 4 * ndim
    if len(content) < header:
        raise DataError(f"{place} ends at offset {len(content)}, inside its {header}-byte header")
    magic, *shape = struct.unpack_from(f">{1 + ndim}I", content)
    if magic != (_UINT8 << 8) + ndim:
        raise DataError(f"{place}: magic {magic} at offset 0, expected {(_UINT8 << 8) + ndim}")
    # Python integers: a hostile header cannot overflow the product.
    expected = 1
    for length in shape:
        expected *= length
    if len(content) - header != expected:
        raise DataError(
            f"{place}: {expected} bytes announced for shape {tuple(shape)}, "
            f"{len(content) - header} found after offset {header}"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def write_idx(array: np.ndarray) -> bytes:
    """The IDX file of a uint8 array."""
    header = struct.pack(f">{1 + array.ndim}I", (_UINT8 << 8) + array.ndim, *array.shape)
    return header + np.ascontiguousarray(array, np.uint8).tobytes()


def images_and_labels(
    contents: Contents, name: str, origin: str, *, mean: float, std: float, licence: str
) -> Dataset:
    """A classification set of 10 classes from the four canonical IDX files."""
    data = contents.data
    x, x_test = (
        torch.from_numpy(parse_idx(data[file], 3, file)).unsqueeze(1)
        for file in (TRAIN_IMAGES, TEST_IMAGES)
    )
    y, y_test = (
        torch.from_numpy(parse_idx(data[file], 1, file)).long()
        for file in (TRAIN_LABELS, TEST_LABELS)
    )
    return Dataset(
        name,
        x,
        y,
        x_test,
        y_test,
        classes=10,
        mean=mean,
        std=std,
        source=sentence(name, len(y), len(y_test), origin, contents.sha256),
        checksums=contents.sha256,
        licence=licence,
    )
