"""Files that are written whole or not at all, under names that say what they hold."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from fedsieve.experiments.toml import ConfigError


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    atomically(path, lambda file: file.write_text(text, encoding="utf-8"))


def atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a file beside ``path``, then move it there.

    The content reaches the disk before the name does, so a power cut leaves the old file or the
    new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    beside = Path(name)
    try:
        write(beside)
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        beside.chmod(0o666 & ~umask)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def refuse_other_ending(out: Path, *allowed: str) -> None:
    """Before anything is computed: a file's name must end as what will be written into it.

    Args:
        out: The file that was asked for.
        allowed: Endings, such as ".png"; the first is proposed.

    Raises:
        ConfigError: It is a directory, or ends otherwise.

    Example:
        >>> refuse_other_ending(Path("curve.gif"), ".png")
        Traceback (most recent call last):
        fedsieve.experiments.toml.ConfigError: --out curve.gif must end in .png, as curve.png does
    """
    endings = " or ".join(allowed)
    if out.is_dir():
        raise ConfigError(f"--out {out} is a directory; give a file that ends in {endings}")
    if out.suffix.lower() not in allowed:
        nearest = out.with_suffix(allowed[0])
        raise ConfigError(f"--out {out} must end in {endings}, as {nearest} does")
