"""Checkpoints: tensors in safetensors, everything else in a JSON manifest, written atomically.

A checkpoint is a folder ``round-000050`` with ``state.safetensors`` and ``manifest.json`` (format,
round, sha256 of the tensors, the privacy ledger, counters). It is written under another name,
flushed to disk and renamed, so a folder of that name is whole or absent; what a killed process left
behind is ignored and swept by the next save. The two newest are kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

FORMAT = 1
KEPT = 2
_UNFINISHED = ".unfinished"


class CheckpointError(RuntimeError):
    """A checkpoint is missing, damaged or of another format."""


@dataclass(frozen=True)
class Checkpoint:
    """A simulation between two rounds.

    Args:
        round: Number of finished rounds.
        tensors: Shared state and client memory, by dotted name.
        facts: JSON-able rest: ledger, random seeds, counters.
    """

    round: int
    tensors: dict[str, Tensor]
    facts: dict[str, Any] = field(default_factory=dict)


def save(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint into ``folder`` and drop all but the newest `KEPT`."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob(f"*{_UNFINISHED}"):
        shutil.rmtree(stale)
    final = folder / f"round-{checkpoint.round:06d}"
    draft = folder / (final.name + _UNFINISHED)
    draft.mkdir()
    content = safetensors.torch.save({k: v.contiguous() for k, v in checkpoint.tensors.items()})
    manifest = {
        "format": FORMAT,
        "round": checkpoint.round,
        "sha256": hashlib.sha256(content).hexdigest(),
        "facts": checkpoint.facts,
    }
    _write(draft / "state.safetensors", content)
    _write(draft / "manifest.json", json.dumps(manifest, indent=1).encode())
    if final.exists():  # the same round, saved again after a resume
        shutil.rmtree(final)
    draft.rename(final)
    _flush_folder(folder)
    for old in saved(folder)[:-KEPT]:
        shutil.rmtree(old)
    return final


def saved(folder: Path) -> list[Path]:
    """The whole checkpoints in ``folder``, oldest first."""
    whole = [p for p in folder.glob("round-*") if p.is_dir() and p.suffix != _UNFINISHED]
    return sorted(whole, key=lambda p: (len(p.name), p.name))  # round 1,000,000 after 999,999


def load(path: Path) -> Checkpoint:
    """Read a checkpoint and verify it.

    Raises:
        CheckpointError: It is missing, its tensors do not match the manifest's checksum, or its
            format is another one.
    """
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        content = (path / "state.safetensors").read_bytes()
        format_ = manifest["format"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise CheckpointError(f"{path} is not a whole checkpoint: {error!r}") from error
    if format_ != FORMAT:
        raise CheckpointError(f"{path} has format {format_}; this is {FORMAT}")
    found = hashlib.sha256(content).hexdigest()
    if found != manifest["sha256"]:
        raise CheckpointError(
            f"{path / 'state.safetensors'} is damaged: sha256 is {found}, "
            f"expected {manifest['sha256']}"
        )
    return Checkpoint(manifest["round"], safetensors.torch.load(content), manifest["facts"])


def newest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole; ``None`` if there is none.

    Raises:
        CheckpointError: Checkpoints exist, but all of them are damaged.
    """
    error: CheckpointError | None = None
    for path in reversed(saved(folder)):
        try:
            return load(path)
        except CheckpointError as damaged:
            error = error or damaged
    if error is not None:
        raise error
    return None


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
