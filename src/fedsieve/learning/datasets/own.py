"""A user's own data: arrays in memory, or a folder of .npz files with one file per client."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from fedsieve.learning.data import Dataset
from fedsieve.learning.datasets._files import DataError
from fedsieve.learning.datasets._places import sentence
from fedsieve.registry import register

TEST_FILE = "test.npz"
"""The one file of a folder that belongs to no client."""


def from_arrays(
    x: ArrayLike,
    y: ArrayLike,
    x_test: ArrayLike,
    y_test: ArrayLike,
    *,
    name: str = "own",
    classes: int | None = None,
    mean: float | tuple[float, ...] = 0.0,
    std: float | tuple[float, ...] = 1.0,
    owners: ArrayLike | None = None,
    origin: str = "arrays of the caller",
    licence: str = "unknown",
) -> Dataset:
    """A data set from arrays in memory.

    Arrays of the stored type are not copied: leave them alone afterwards.

    Args:
        x: Training records (N, ...): uint8 images (N, channels, height, width), floats (kept as
            float32), or other integers (tokens, kept as int64).
        y: Labels (N,): integers are classes 0, 1, ..., floats are the targets of a regression.
        x_test: Test records, as ``x``.
        y_test: Test labels, as ``y``.
        name: Name for summaries.
        classes: Number of classes; ``None`` takes the largest label + 1, which then is at most the
            number of records. 0 is a regression.
        mean: Subtracted from every record (images: after / 255); one number, or one per channel.
        std: Divides every record after that; > 0.
        owners: Natural owner of each training record, integers (N,).
        origin: Where the arrays come from, as a part of a sentence.
        licence: Licence of the data.

    Raises:
        ValueError: Lengths, types or labels do not fit, a record is not finite, or mean, std or
            classes are out of range.

    Example:
        >>> own = from_arrays([[0.5], [2.0]], [0, 1], [[1.0]], [1])
        >>> own.classes, own.x.dtype
        (2, torch.float32)
    """
    if not (np.all(np.asarray(std) > 0) and np.isfinite(std).all()):
        raise ValueError(f"std={std} must be > 0 and finite")
    if not np.isfinite(mean).all():
        raise ValueError(f"mean={mean} must be finite")
    if classes is not None and classes < 0:
        raise ValueError(f"classes={classes} must be >= 0; 0 is a regression")
    train, targets = _records(x, "x"), _labels(y, "y", classes)
    test, targets_test = _records(x_test, "x_test"), _labels(y_test, "y_test", classes)
    if classes is None:
        _refuse_sparse_classes(targets, targets_test)
        classes = 0 if targets.is_floating_point() else 1 + max(_top(targets), _top(targets_test))
    for what, values in (("mean", mean), ("std", std)):
        if isinstance(values, tuple) and train.shape[1:2] != (len(values),):
            raise ValueError(
                f"{what}={values}: one number, or one for each channel of records of shape "
                f"{tuple(train.shape[1:])}"
            )
    tensors = {"x": train, "y": targets, "x_test": test, "y_test": targets_test}
    checksums = {key: _sha256(tensor) for key, tensor in tensors.items()}
    return Dataset(
        name,
        train,
        targets,
        test,
        targets_test,
        classes=classes,
        mean=mean,
        std=std,
        owners=None if owners is None else torch.as_tensor(np.asarray(owners, dtype=np.int64)),
        source=sentence(name, len(targets), len(targets_test), origin, checksums),
        checksums=checksums,
        licence=licence,
    )


@register("dataset", "folder")
def folder(
    data_dir: Path | None = None,
    *,
    classes: int | None = None,
    mean: float | tuple[float, ...] = 0.0,
    std: float | tuple[float, ...] = 1.0,
) -> Dataset:
    """Your own data: a folder of .npz files, one per client, and test.npz.

    Every file holds an array ``x`` and an array ``y`` as `from_arrays` takes them, written by
    ``np.savez(path, x=x, y=y)``. The files in the order of their names are the natural owners.
    Nothing in them is unpickled.

    Args:
        data_dir: The folder; required.
        classes: As in `from_arrays`.
        mean: As in `from_arrays`.
        std: As in `from_arrays`.

    Raises:
        DataError: No folder is given, test.npz or the clients' files are missing, or a file is
            damaged, holds other arrays, or does not fit the first one.
        ValueError: As in `from_arrays`.
    """
    if data_dir is None:
        raise DataError("folder: data_dir is required: the folder with the .npz files")
    directory = Path(data_dir).expanduser()
    paths = sorted(path for path in directory.glob("*.npz") if path.name != TEST_FILE)
    if not paths or not (directory / TEST_FILE).is_file():
        raise DataError(
            f"folder: data_dir={str(data_dir)!r} must hold {TEST_FILE} and at least one more "
            f".npz file; found {', '.join(p.name for p in directory.glob('*.npz')) or 'none'}"
        )
    parts = [_read_npz(path) for path in paths]
    for path, (x, y) in zip(paths, parts, strict=True):
        first = parts[0][0]
        if x.shape[1:] != first.shape[1:] or x.dtype != first.dtype or len(x) != len(y):
            raise DataError(
                f"{path}: x is {x.dtype} {x.shape} and y has {len(y)} labels; "
                f"{paths[0].name} has records {first.dtype} {first.shape[1:]}"
            )
    x_test, y_test = _read_npz(directory / TEST_FILE)
    return from_arrays(
        np.concatenate([x for x, _ in parts]),
        np.concatenate([y for _, y in parts]),
        x_test,
        y_test,
        name=directory.resolve().name,
        classes=classes,
        mean=mean,
        std=std,
        owners=np.repeat(np.arange(len(parts)), [len(y) for _, y in parts]),
        origin=f"{len(parts)} files in {directory}",
    )


def _read_npz(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            x, y = arrays["x"], arrays["y"]
    except KeyError as error:
        raise DataError(f"{path}: expected the arrays x and y; {error.args[0]}") from error
    # A TypeError: the file is a single array, which is no context manager.
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} is no readable .npz file of plain arrays: {error}") from error
    if x.ndim == 0 or y.ndim == 0:
        raise DataError(f"{path}: x has shape {x.shape} and y {y.shape}; a row each is needed")
    return x, y


def _records(values: ArrayLike, place: str) -> Tensor:
    array: np.ndarray[Any, Any] = np.asarray(values)
    if np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all():
            at = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
            raise ValueError(f"{place}[{', '.join(map(str, at))}]={array[at]} must be finite")
        return _tensor(array, np.float32)
    if array.dtype == np.uint8:
        return _tensor(array, np.uint8)
    if np.issubdtype(array.dtype, np.integer):
        return _tensor(array, np.int64)
    raise ValueError(f"{place} has dtype {array.dtype}; allowed are uint8, floats and integers")


def _labels(values: ArrayLike, place: str, classes: int | None) -> Tensor:
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{place} has shape {array.shape}; allowed is one label per record, (N,)")
    if classes == 0 or np.issubdtype(array.dtype, np.floating):
        return _records(array.astype(np.float32), place)
    if np.issubdtype(array.dtype, np.integer) or array.dtype == np.bool_:
        return _tensor(array, np.int64)
    raise ValueError(f"{place} has dtype {array.dtype}; allowed are integers and floats")


def _refuse_sparse_classes(*labels: Tensor) -> None:
    """Labels that count no classes, such as identities or amounts, would make a model of any size.

    Raises:
        ValueError: Classes up to the largest label would be more than there are records.
    """
    total = sum(map(len, labels))
    for place, held in zip(("y", "y_test"), labels, strict=True):
        if held.is_floating_point() or not len(held):
            continue
        if (top := int(held.max())) >= total:
            raise ValueError(
                f"{place}[{int(held.argmax())}]={top}: integers are taken as classes 0, 1, ..., "
                f"and that would be {top + 1} classes for {total} records; allowed are labels "
                f"0..{total - 1}, any with classes= (their number), or floats for a regression"
            )


def _top(labels: Tensor) -> int:
    return int(labels.max()) if len(labels) else 0


def _tensor(array: np.ndarray, dtype: type[np.generic]) -> Tensor:
    kept = np.ascontiguousarray(array, dtype)
    return torch.from_numpy(kept if kept.flags.writeable else kept.copy())


def _sha256(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().numpy().data).hexdigest()
