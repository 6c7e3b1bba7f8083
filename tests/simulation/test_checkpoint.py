"""Checkpoints: whole or absent whenever the process dies, checked when read, written in place."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from fedsieve.simulation import checkpoint as module
from fedsieve.simulation.checkpoint import (
    Checkpoint,
    CheckpointError,
    load,
    newest,
    round_of,
    save,
    saved,
)


def at(round_: int, value: float = 0.0) -> Checkpoint:
    return Checkpoint(round_, {"shared.theta": torch.full((8,), value)}, {"seconds": value})


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor([], dtype=torch.int64)}
    path = save(tmp_path, Checkpoint(7, tensors, {"ledger": None, "seed": 2**62, "x": 0.1}))
    assert (path.name, round_of(path)) == ("round-000007", 7)
    found = load(path)
    assert found.round == 7
    assert found.facts == {"ledger": None, "seed": 2**62, "x": 0.1}
    assert found.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(found.tensors[name], tensor)
        assert found.tensors[name].dtype == tensor.dtype


def test_the_two_newest_are_kept_in_the_order_of_their_rounds(tmp_path: Path) -> None:
    assert newest(tmp_path) is None
    for round_ in (3, 999_999, 1_000_000):
        save(tmp_path, at(round_))
    assert [round_of(path) for path in saved(tmp_path)] == [999_999, 1_000_000]
    assert newest(tmp_path).round == 1_000_000
    with pytest.raises(CheckpointError, match="no checkpoint"):
        round_of(tmp_path)


# ------------------------------------------------------------------------------------ dying in it


class Death(BaseException):
    """The process is killed."""


class Fate:
    """Lets the process die at the so-maniest step that touches the disk."""

    def __init__(self, patch: pytest.MonkeyPatch, step: int) -> None:
        self.left = step
        for owner, name in ((module.shutil, "rmtree"), (module, "_flush"), (Path, "rename")):
            patch.setattr(owner, name, self.deadly(getattr(owner, name)))

    def deadly(self, called: Any) -> Any:
        def step(path: Path, *args: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                if called is real_rmtree:  # half of the folder is gone already
                    sorted(path.iterdir())[0].unlink()
                raise Death
            return called(path, *args)

        return step


real_rmtree = shutil.rmtree


def deaths(folder: Path, checkpoint: Checkpoint) -> Iterator[Path]:
    """Copies of ``folder`` in which saving died at its first step, its second, and so on."""
    for step in range(100):
        copy = folder.parent / f"{folder.name}-{step}"
        shutil.copytree(folder, copy)
        with pytest.MonkeyPatch.context() as patch:
            Fate(patch, step)
            try:
                save(copy, checkpoint)
            except Death:
                pass
            else:
                assert step > 5
                return
        yield copy


@pytest.mark.parametrize("before", [[4], [0, 4]])
def test_saving_a_round_again_never_leaves_less_than_there_was(
    tmp_path: Path, before: list[int]
) -> None:
    for round_ in before:
        save(tmp_path / "run", at(round_, 1.0))
    values = set()
    for folder in deaths(tmp_path / "run", at(4, 2.0)):
        for path in saved(folder):
            load(path)  # what has the name of a checkpoint is whole
        found = newest(folder)
        assert found.round == 4
        values.add(found.facts["seconds"])
        save(folder, at(4, 3.0))  # and the next save makes good what was left behind
        assert newest(folder).facts["seconds"] == 3.0
        assert [path.name for path in sorted(folder.iterdir())] == [
            f"round-{n:06d}" for n in before
        ]
    assert values == {1.0, 2.0}


def test_dropping_old_checkpoints_leaves_no_half_ones(tmp_path: Path) -> None:
    for round_ in (0, 4):
        save(tmp_path / "run", at(round_))
    for folder in deaths(tmp_path / "run", at(8)):
        for path in saved(folder):
            load(path)
        assert newest(folder).round in (4, 8)
        save(folder, at(12))
        assert len(list(folder.iterdir())) == 2


# ----------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("manifest.json", b"1.5", b"1.6"),
        ("manifest.json", b'"round": 4', b'"round": 5'),
        ("SHA256SUMS", b"  state", b"  stale"),
        ("SHA256SUMS", b"  ", b" "),
    ],
)
def test_the_checksums_cover_the_facts_as_well(
    tmp_path: Path, name: str, old: bytes, new: bytes
) -> None:
    file = save(tmp_path, at(4, 1.5)) / name
    content = file.read_bytes()
    assert old in content
    file.write_bytes(content.replace(old, new, 1))
    with pytest.raises(CheckpointError, match=r"manifest\.json is damaged|not a whole checkpoint"):
        newest(tmp_path)


def test_checksums_are_those_of_the_files(tmp_path: Path) -> None:
    path = save(tmp_path, at(4))
    lines = [
        f"{hashlib.sha256((path / name).read_bytes()).hexdigest()}  {name}"
        for name in ("state.safetensors", "manifest.json")
    ]
    assert (path / "SHA256SUMS").read_text().splitlines() == lines


def test_another_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path, at(4))
    monkeypatch.setattr(module, "FORMAT", module.FORMAT + 1)
    with pytest.raises(CheckpointError, match="has format 2; this is 3"):
        load(path)


# ----------------------------------------------------------------------------------------- memory


def test_tensors_of_one_storage_and_strided_ones_are_saved(tmp_path: Path) -> None:
    whole = torch.arange(12.0)
    tensors = {
        "whole": whole,
        "same": whole,
        "half": whole[:6],
        "strided": whole.view(3, 4).T,
        "tracked": torch.ones(2, requires_grad=True),
    }
    found = load(save(tmp_path, Checkpoint(1, tensors))).tensors
    for name, tensor in tensors.items():
        assert torch.equal(found[name], tensor)
        assert found[name].untyped_storage().nbytes() == 4 * tensor.numel()


def test_only_tensors_that_share_a_storage_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: dict[str, int] = {}
    save_file = safetensors.torch.save_file

    def spy(tensors: dict[str, torch.Tensor], file: Path) -> None:
        written.update({name: tensor.data_ptr() for name, tensor in tensors.items()})
        save_file(tensors, file)

    monkeypatch.setattr(safetensors.torch, "save_file", spy)
    one, other = torch.ones(4), torch.ones(4)
    save(tmp_path, Checkpoint(1, {"one": one, "view": one[1:], "other": other}))
    assert (written["one"], written["other"]) == (one.data_ptr(), other.data_ptr())
    assert written["view"] != one[1:].data_ptr()


MEMORY = """
import sys
from pathlib import Path
import torch
from fedsieve.simulation.checkpoint import Checkpoint, save

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])

tensors = {name: torch.ones(2**24) for name in "abcd"}
save(Path(sys.argv[1]), Checkpoint(0, {"a": torch.ones(4)}))
before = peak()
save(Path(sys.argv[1]), Checkpoint(1, tensors))
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read in /proc")
def test_saving_takes_no_memory_of_the_size_of_the_state(tmp_path: Path) -> None:
    words = [sys.executable, "-c", MEMORY, str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 32 * 1024  # KiB; the state has 256 MiB
