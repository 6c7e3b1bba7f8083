"""Sets that scikit-learn carries: loading with a clear message, checking, splitting."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from fedsieve.learning.datasets._files import DataError


def bundled(name: str, **options: Any) -> Any:
    """What ``sklearn.datasets.load_NAME`` returns.

    Raises:
        DataError: scikit-learn is not installed.
    """
    try:
        from sklearn import datasets
    except ImportError as error:
        raise DataError(
            f"{name} comes with scikit-learn, which is not installed: pip install 'fedsieve[data]'"
        ) from error
    return getattr(datasets, f"load_{name}")(**options)


def pinned(name: str, array: np.ndarray, sha256: str) -> np.ndarray:
    """The array, if its bytes (little-endian, C order) have this sha256.

    Raises:
        DataError: With both checksums.
    """
    data = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise DataError(
            f"{name} of the installed scikit-learn is not the known one: "
            f"expected sha256 {sha256}, found {found}"
        )
    return array


def every_fifth(n: int) -> np.ndarray:
    """Mask (n,) of the test records of a set without a published split: 4, 9, 14 and so on."""
    mask: np.ndarray = np.arange(n) % 5 == 4
    return mask
