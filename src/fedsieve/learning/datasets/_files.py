"""Files of published data sets: their checksums, and reading them without trusting them.

A checksum is pinned for the *uncompressed* content, so a copy that somebody compressed again
(``.gz``, ``.xz``, or not at all) passes, and anything else is refused with its name and both
checksums. Nothing is ever read beyond the pinned size, so a hostile archive cannot fill the memory.
"""

from __future__ import annotations

import gzip
import hashlib
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

_CHUNK = 1 << 20
_BROKEN = (EOFError, OSError, lzma.LZMAError, zlib.error, tarfile.TarError)


class Readable(Protocol):
    """A stream of bytes."""

    def read1(self, size: int, /) -> bytes:
        """What one read of the source gives, at most ``size`` bytes; none at the end."""
        ...


class DataError(ValueError):
    """A file of a data set is missing, truncated, corrupted or the wrong one."""


@dataclass(frozen=True)
class DataFile:
    """One file of a published set.

    Args:
        name: Canonical file name, without a compression suffix.
        size: Bytes of the uncompressed content.
        checksum: ``"sha256:..."`` of the uncompressed content (``"md5:..."`` where no sha256 is
            published).
        remote: File name at the mirrors, where it differs from ``name`` (a compressed copy).
        remote_sha256: sha256 of the file at the mirrors; empty where it is not downloaded singly.
    """

    name: str
    size: int
    checksum: str
    remote: str = ""
    remote_sha256: str = ""


@dataclass(frozen=True)
class Archive:
    """The one tar archive in which a set is published: file name at the mirrors, and sha256."""

    name: str
    sha256: str


@dataclass(frozen=True)
class FileSet:
    """All files of a published set, and the places where they may lie.

    Args:
        name: Name of the data set.
        files: The files.
        folders: Folders below a data directory in which the files may lie, in this order; the
            directory itself is tried last.
        mirrors: Addresses to download from, in this order, ending with a slash.
        archive: Where the mirrors serve one archive instead of single files.
        system: Directories in which packages of the operating system install the set.
        carried: The only place of a set that is carried in this package.
    """

    name: str
    files: tuple[DataFile, ...]
    folders: tuple[str, ...]
    mirrors: tuple[str, ...] = ()
    archive: Archive | None = None
    system: tuple[Path, ...] = ()
    carried: Path | None = None

    @property
    def downloads(self) -> tuple[tuple[str, str], ...]:
        """(File name at a mirror, sha256) of everything that a download fetches."""
        if self.archive is not None:
            return ((self.archive.name, self.archive.sha256),)
        return tuple((file.remote or file.name, file.remote_sha256) for file in self.files)

    def present(self, folder: Path) -> dict[str, Path]:
        """The files of the set that lie in this folder: canonical name -> path, unread."""
        found = {}
        for file in self.files:
            paths = [folder / (file.name + suffix) for suffix in ("", ".gz", ".xz")]
            held = [path for path in paths if path.is_file()]
            if held:
                found[file.name] = held[0]
        archive = folder / self.archive.name if self.archive else None
        if len(found) < len(self.files) and archive is not None and archive.is_file():
            return {file.name: archive for file in self.files}
        return found

    def read(self, paths: dict[str, Path]) -> Contents:
        """The verified contents of the files at these paths.

        Raises:
            DataError: A file is truncated, corrupted or the wrong one.
        """
        first = next(iter(paths.values()))
        if self.archive is not None and first.name == self.archive.name:
            data = _read_archive(first, self.files)
        else:
            data = {file.name: read_file(file, paths[file.name]) for file in self.files}
        return Contents(data, {file.name: _sha256(file, data[file.name]) for file in self.files})


@dataclass(frozen=True)
class Contents:
    """Verified files of a set: canonical name -> content, and -> sha256 of the content."""

    data: dict[str, bytearray]
    sha256: dict[str, str]


def read_file(file: DataFile, path: Path) -> bytearray:
    """The uncompressed content of ``path``, which must be that of ``file``.

    Raises:
        DataError: With the path, both checksums and both sizes.
    """
    with _opened(path) as stream:
        return _verified(file, stream, str(path))


def _read_archive(path: Path, files: tuple[DataFile, ...]) -> dict[str, bytearray]:
    """Read the wanted members in one pass; names in the archive are compared, never followed."""
    wanted = {file.name: file for file in files}
    read: dict[str, bytearray] = {}
    try:
        with tarfile.open(path, "r:*") as tar:
            for member in tar:
                name = Path(member.name).name
                stream = tar.extractfile(member) if name in wanted and member.isfile() else None
                if stream is not None:
                    read[name] = _verified(
                        wanted[name], cast("Readable", stream), f"{path}:{member.name}"
                    )
    except _BROKEN as error:
        raise DataError(f"{path} is no readable archive: {error}") from error
    if missing := sorted(set(wanted) - set(read)):
        raise DataError(f"{path} lacks {', '.join(missing)}")
    return read


@contextmanager
def _opened(path: Path) -> Iterator[Readable]:
    if path.suffix == ".gz":
        with gzip.open(path) as unzipped:
            yield unzipped
    elif path.suffix == ".xz":
        with lzma.open(path) as unpacked:
            yield unpacked
    else:
        with path.open("rb") as plain:
            yield plain


def _sha256(file: DataFile, content: bytearray) -> str:
    """The sha256 of a verified content, computed only where the pin is of another kind."""
    algorithm, pinned = file.checksum.split(":")
    return pinned if algorithm == "sha256" else hashlib.sha256(content).hexdigest()


def _verified(file: DataFile, stream: Readable, place: str) -> bytearray:
    algorithm, expected = file.checksum.split(":")
    content, problem = bytearray(), ""
    try:
        # One byte more than the pinned size is enough to see that there is too much. `read1`: where
        # a stream breaks off, what came before is kept, and told.
        while chunk := stream.read1(min(_CHUNK, file.size + 1 - len(content))):
            content += chunk
    except _BROKEN as error:
        problem = f" (the stream breaks off: {error})"
    found = hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()
    if problem or len(content) != file.size or found != expected:
        size = f"more than {file.size}" if len(content) > file.size else f"{len(content)}"
        raise DataError(
            f"{place} is truncated, corrupted or not {file.name}{problem}: "
            f"expected {algorithm} {expected} of {file.size} bytes, "
            f"found {algorithm} {found} of {size} bytes"
            + (" that could be unpacked" if problem else "")
        )
    return content
