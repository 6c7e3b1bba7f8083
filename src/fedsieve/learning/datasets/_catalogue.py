"""Data sets by name: load one, see where it may come from, verify its copies, fetch it."""

from __future__ import annotations

import inspect
from pathlib import Path

from fedsieve.learning.data import Dataset
from fedsieve.learning.datasets._files import DataError
from fedsieve.learning.datasets._places import (
    Source,
    State,
    candidates,
    fetch_files,
    file_set,
)
from fedsieve.registry import component


def load(name: str, data_dir: Path | str | None = None, download: bool = False) -> Dataset:
    """Load a data set by its name.

    The places are searched in the order that `sources` lists. Every file is verified on every
    load; ``Dataset.source`` is the sentence to print.

    Args:
        name: A name of the family "dataset" in the registry, such as ``"fashion-mnist"``.
        data_dir: Directory that holds the set's files, or a folder of its name with them.
        download: Fetch the set where it is not on this machine; nothing is fetched otherwise.

    Raises:
        UnknownComponentError: No set has this name.
        DataError: The set is missing, incomplete, truncated, corrupted or the wrong one.
        ValueError: ``data_dir`` is given for a set that is read from no directory.

    Example:
        >>> subset = load("fashion-mnist-subset")
        >>> subset.x.shape, len(subset.y_test)
        (torch.Size([10000, 1, 28, 28]), 2000)
    """
    chosen = component("dataset", name)
    if data_dir is not None and "data_dir" not in inspect.signature(chosen.factory).parameters:
        raise ValueError(f"data_dir={str(data_dir)!r}: {name} is read from no directory; leave out")
    directory = None if data_dir is None else Path(data_dir)
    dataset: Dataset = chosen.build(data_dir=directory, download=download)
    return dataset


def sources(name: str, data_dir: Path | str | None = None) -> tuple[Source, ...]:
    """The places in which a set is looked for, in that order, and whether it lies there.

    Args:
        name: Name of the data set.
        data_dir: Restricts the search to this directory.

    Raises:
        UnknownComponentError: No set has this name.
    """
    component("dataset", name)
    files = file_set(name)
    if files is None:
        return ()
    found = []
    for kind, folder in candidates(files, None if data_dir is None else Path(data_dir)):
        held = len(files.present(folder))
        found.append(Source(kind, str(folder), _state(held, len(files.files))))
    if data_dir is None:
        found += [Source("download", mirror, "on request") for mirror in files.mirrors]
    return tuple(found)


def _state(held: int, wanted: int) -> State:
    if held == wanted:
        return "complete"
    return "incomplete" if held else "absent"


def verify(name: str, data_dir: Path | str | None = None) -> dict[str, str]:
    """Read and verify every complete copy of a set on this machine.

    Args:
        name: Name of the data set.
        data_dir: Restricts the check to this directory.

    Returns:
        Path of the file, packed or not -> sha256 of the uncompressed content, in the order of
        `sources`; empty where the set has no files of its own or no copy.

    Raises:
        UnknownComponentError: No set has this name.
        DataError: A file is refused, with its path and both checksums.
    """
    verified: dict[str, str] = {}
    files = file_set(name)
    for source in sources(name, data_dir):
        if files is not None and source.state == "complete":
            paths = files.present(Path(source.place))
            for file, sha256 in files.read(paths).sha256.items():
                verified[str(paths[file])] = sha256
    return verified


def fetch(name: str, directory: Path | str | None = None) -> Path:
    """Download a set from its publisher and verify it; files that are there already are kept.

    Args:
        name: Name of the data set.
        directory: A folder of the set's name is made in it; default is the cache, where `load`
            finds it.

    Returns:
        The folder with the files.

    Raises:
        UnknownComponentError: No set has this name.
        DataError: It is not a set that can be fetched, or no mirror served the pinned files.
    """
    component("dataset", name)
    files = file_set(name)
    if files is None or not files.mirrors:
        raise DataError(f"{name} needs no download")
    # A folder of its own: the files of MNIST and Fashion-MNIST have the same names.
    return fetch_files(files, None if directory is None else Path(directory).expanduser() / name)
