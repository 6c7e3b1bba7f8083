"""Checkpoints: tensors in safetensors, everything else in a JSON manifest, written atomically.

A checkpoint is a folder ``round-000050`` with ``state.safetensors``, ``manifest.json`` (format,
round, the privacy ledger, counters) and ``SHA256SUMS`` of both, which ``sha256sum -c`` reads. It is
written under another name, flushed to disk and renamed, so a folder of that name is whole or
absent; it is renamed again before it is removed. Saving a round a second time moves the old folder
aside as ``round-000050.replaced`` and counts that one until the new one has its name. What a killed
process left behind is ignored and swept by the next save. The two newest are kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

FORMAT = 2
KEPT = 2
_STATE, _MANIFEST, _SUMS = "state.safetensors", "manifest.json", "SHA256SUMS"
_UNFINISHED, _REPLACED = ".unfinished", ".replaced"
_NAME = re.compile(r"round-(\d+)(\.replaced)?")


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
    """Write a checkpoint into ``folder`` and drop all but the newest `KEPT`.

    The tensors are written from where they are; only those on an accelerator, those that are not
    contiguous and those that share their storage with another one are copied.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob(f"*{_UNFINISHED}"):
        shutil.rmtree(stale)
    final = folder / f"round-{checkpoint.round:06d}"
    draft = folder / (final.name + _UNFINISHED)
    draft.mkdir()
    safetensors.torch.save_file(_apart(checkpoint.tensors), draft / _STATE)
    manifest = {"format": FORMAT, "round": checkpoint.round, "facts": checkpoint.facts}
    (draft / _MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    sums = "".join(f"{_sha256(draft / name)}  {name}\n" for name in (_STATE, _MANIFEST))
    (draft / _SUMS).write_text(sums, encoding="utf-8")
    for path in (draft / _STATE, draft / _MANIFEST, draft / _SUMS, draft):
        _flush(path)
    if final.exists():  # the same round, saved again after a resume
        _discard(folder / (final.name + _REPLACED))
        final.rename(folder / (final.name + _REPLACED))
    draft.rename(final)
    _flush(folder)
    for old in set(folder.glob("round-*")) - set(saved(folder)[-KEPT:]):
        _discard(old)
    return final


def saved(folder: Path) -> list[Path]:
    """The whole checkpoints in ``folder``, oldest first, one for each round."""
    found: dict[int, Path] = {}
    for path in sorted(folder.glob("round-*")):  # a name comes before the same with a suffix
        name = _NAME.fullmatch(path.name)
        if name and path.is_dir():
            found.setdefault(int(name[1]), path)
    return [found[number] for number in sorted(found)]


def round_of(path: Path) -> int:
    """Number of finished rounds in the checkpoint of this name."""
    name = _NAME.fullmatch(path.name)
    if name is None:
        raise CheckpointError(f"{path} is no checkpoint; its name must be round-NUMBER")
    return int(name[1])


def load(path: Path) -> Checkpoint:
    """Read a checkpoint and verify it.

    Raises:
        CheckpointError: It is missing, one of its files does not match its checksum, or its format
            is another one.
    """
    try:
        manifest = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise CheckpointError(f"{path} has format {manifest['format']}; this is {FORMAT}")
        lines = (path / _SUMS).read_text(encoding="utf-8").splitlines()
        sums = {name: wanted for wanted, name in (line.split("  ") for line in lines)}
        for name in (_STATE, _MANIFEST):
            found = _sha256(path / name)
            if found != sums[name]:
                raise CheckpointError(
                    f"{path / name} is damaged: sha256 is {found}, expected {sums[name]}"
                )
        state = safetensors.torch.load_file(path / _STATE)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise CheckpointError(f"{path} is not a whole checkpoint: {error!r}") from error
    # copied, because what was read is one mapping of the file: no tensor has a storage of its own
    tensors = {name: tensor.clone() for name, tensor in state.items()}
    return Checkpoint(manifest["round"], tensors, manifest["facts"])


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


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as safetensors takes them: contiguous, and no two of one storage."""
    apart: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, given in tensors.items():
        tensor = given.detach().cpu().contiguous()
        storage = tensor.untyped_storage().data_ptr()
        apart[name] = tensor.clone() if storage in storages else tensor
        storages.add(storage)
    return apart


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _discard(path: Path) -> None:
    """Remove a checkpoint, if it exists, so that half of it never has the name of a whole one."""
    if path.exists():
        if path.suffix != _UNFINISHED:
            path = path.rename(path.with_name(path.name + _UNFINISHED))
        shutil.rmtree(path)


def _flush(path: Path) -> None:
    """Let a file, or the names in a folder, reach the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
