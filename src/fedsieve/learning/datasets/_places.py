"""Where the files of a published set are looked for, in a fixed order that nobody has to guess.

1. the directory given as an argument (``--data-dir``); it must hold the set,
2. the directory named by the environment variable ``FEDSIEVE_DATA``,
3. the cache (``FEDSIEVE_CACHE``, or the user's cache directory), which `fetch` fills,
4. packages of the operating system, such as Debian's ``dataset-fashion-mnist``,
5. a download into the cache, only when it is asked for,
6. a subset embedded in this package, where there is one; `Dataset.source` then says so.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fedsieve.learning.datasets._files import Contents, DataError, FileSet

State = Literal["complete", "incomplete", "absent", "on request"]


@dataclass(frozen=True)
class Source:
    """One place in which a data set may be found.

    Args:
        kind: What the place is: ``"FEDSIEVE_DATA"``, ``"cache"``, ``"download"`` and so on.
        place: Path or address.
        state: Whether all files lie there; ``"on request"`` for a download.
    """

    kind: str
    place: str
    state: State


@dataclass(frozen=True)
class Located:
    """A complete set of files: the kind of place, the folder, and canonical name -> path."""

    kind: str
    folder: Path
    paths: dict[str, Path]

    @property
    def origin(self) -> str:
        """The place, as a part of a sentence."""
        return f"{self.kind} ({self.folder})"


_file_sets: dict[str, FileSet] = {}


def published(files: FileSet) -> FileSet:
    """Note that the data set of this name consists of these files; returns them."""
    _file_sets[files.name] = files
    return files


def file_set(name: str) -> FileSet | None:
    """The files of the set of this name; ``None`` where it has none of its own."""
    return _file_sets.get(name)


def cache_directory() -> Path:
    """Where downloads are kept: ``FEDSIEVE_CACHE``, or the user's cache directory."""
    if chosen := os.environ.get("FEDSIEVE_CACHE"):
        return Path(chosen).expanduser()
    import pooch  # slow to import, and needed here and for a download only

    return Path(pooch.os_cache("fedsieve"))


def candidates(files: FileSet, data_dir: Path | None) -> list[tuple[str, Path]]:
    """(Kind, folder) of every place on this machine, in the order of the search."""
    if files.carried is not None:
        return [("package", files.carried)]
    if data_dir is not None:
        return [("data directory", f) for f in _below(files, Path(data_dir).expanduser())]
    places: list[tuple[str, Path]] = []
    if named := os.environ.get("FEDSIEVE_DATA"):
        if not Path(named).expanduser().is_dir():
            raise DataError(f"FEDSIEVE_DATA={named!r} is not a directory; unset it or correct it")
        places += [("FEDSIEVE_DATA", f) for f in _below(files, Path(named).expanduser())]
    places.append(("cache", cache_directory() / files.name))
    return places + [("system package", folder) for folder in files.system]


def locate(files: FileSet, data_dir: Path | None = None) -> Located | None:
    """The first place with all files, ``None`` if there is none.

    Raises:
        DataError: ``data_dir`` is given and lacks the set; or it, or ``FEDSIEVE_DATA``, holds only
            some of its files, which is nobody's intention.
    """
    for kind, folder in candidates(files, data_dir):
        found = files.present(folder)
        if len(found) == len(files.files):
            return Located(kind, folder, found)
        if found and kind in ("data directory", "FEDSIEVE_DATA"):
            missing = [file.name for file in files.files if file.name not in found]
            raise DataError(f"{files.name}: {kind} {folder} lacks {', '.join(missing)}")
    if data_dir is not None:
        raise DataError(
            f"{files.name}: data_dir={str(data_dir)!r} does not hold the set; expected "
            f"{', '.join(file.name for file in files.files)} (plain, .gz or .xz) in it or in its "
            f"folder {' or '.join(files.folders)}"
        )
    return None


def read(files: FileSet, data_dir: Path | None, download: bool) -> tuple[Located, Contents] | None:
    """The verified contents from the first place, downloaded if wanted; ``None`` if nowhere.

    Raises:
        DataError: As `locate`; or a file, or every mirror, is refused.
    """
    located = locate(files, data_dir)
    if located is None and download:
        folder = fetch_files(files)
        located = Located("download", folder, files.present(folder))
    return None if located is None else (located, files.read(located.paths))


def require(files: FileSet, data_dir: Path | None, download: bool) -> tuple[Located, Contents]:
    """As `read`, for a set without an embedded subset.

    Raises:
        DataError: As `read`; or the set is nowhere, with the places searched and the remedies.
    """
    held = read(files, data_dir, download)
    if held is None:
        searched = "; ".join(f"{kind} {folder}" for kind, folder in candidates(files, None))
        raise DataError(
            f"{files.name}: not found on this machine (searched {searched}). Give its directory "
            f"(--data-dir, FEDSIEVE_DATA) or run: fedsieve data fetch {files.name}"
        )
    return held


def fetch_files(files: FileSet, folder: Path | None = None) -> Path:
    """Download what is missing into ``folder`` (default: the cache); every file is verified.

    Raises:
        DataError: No mirror served a file with the pinned sha256; each one's reason is given.
    """
    import pooch

    folder = cache_directory() / files.name if folder is None else folder
    for name, sha256 in files.downloads:
        reasons = []
        for mirror in files.mirrors:
            try:
                pooch.retrieve(mirror + name, f"sha256:{sha256}", fname=name, path=folder)
                break
            except (OSError, ValueError) as error:  # no connection; a wrong checksum
                reasons.append(f"{mirror}: {error}")
        else:
            raise DataError(f"{files.name}: cannot fetch {name}. " + " | ".join(reasons))
    return folder


def sentence(name: str, n_train: int, n_test: int, origin: str, checksums: dict[str, str]) -> str:
    """The one sentence that says what was used; its sha256 is that of the first file."""
    file, sha256 = next(iter(checksums.items()))
    return (
        f"{name}: {n_train:,} training and {n_test:,} test examples from {origin}, "
        f"sha256 of {file}: {sha256}."
    )


def _below(files: FileSet, directory: Path) -> list[Path]:
    return [directory / folder for folder in files.folders] + [directory]
