"""An append-only file of JSON lines that is on the disk when `Journal.append` returns."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class Journal:
    """The lines of a file, and the sha256 of its bytes (that of ``head -n RECORDS FILE``).

    Args:
        path: The file. Lines that it already holds are taken over as `found`, ``None`` for one that
            was torn in the middle; a torn end becomes a line of its own.
        records: So many lines it must hold at least,
        sha256: with this digest; empty for none.

    Raises:
        ValueError: It does not hold them.
    """

    def __init__(self, path: Path, records: int = 0, sha256: str = "") -> None:
        content = path.read_bytes() if path.exists() else b""
        whole = content if content.endswith(b"\n") or not content else content + b"\n"
        lines = [line + b"\n" for line in whole.split(b"\n")[:-1]]
        if len(lines) < records:
            raise ValueError(
                f"journal={path} holds {len(lines)} records, but the checkpoint has seen "
                f"{records}: what was spent is unknown"
            )
        if records and hashlib.sha256(b"".join(lines[:records])).hexdigest() != sha256:
            raise ValueError(f"journal={path} does not belong to the run of this checkpoint")
        self.path, self.records = path, len(lines)
        self.found = [_parsed(line) for line in lines]
        self._sha256 = hashlib.sha256(whole)
        self._failed = False
        if whole != content:
            _write(path, b"\n")

    def append(self, record: Record) -> None:
        """Write a line; when this returns, it survives whatever happens to process and machine.

        Raises:
            OSError: It cannot be written, or an earlier one could not: half of that one may be in
                the file, and a line that is added to a half makes both unreadable.
        """
        if self._failed:
            raise OSError(
                f"journal={self.path} could not be written before; what it holds must be read "
                "again first: resume the run"
            )
        line = json.dumps(record).encode() + b"\n"
        try:
            _write(self.path, line)
        except BaseException:
            self._failed = True
            raise
        self.records += 1
        self._sha256.update(line)

    def state(self) -> dict[str, Any]:
        """How far it has got: the arguments with which its lines are recognised again."""
        return {"records": self.records, "sha256": self._sha256.hexdigest()}


def _write(path: Path, line: bytes) -> None:
    made = not path.exists()
    with path.open("ab") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    if made:
        sync_name(path)


def sync_name(path: Path) -> None:
    """Make the name of a file last, in the folder where the file is if ``path`` is a link to it."""
    if os.name != "posix":
        return  # elsewhere no folder can be opened
    folder = os.open(path.resolve().parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _parsed(line: bytes) -> Record | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
