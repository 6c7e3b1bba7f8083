"""`fedsieve data`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fedsieve.registry import components
from tests.cli.telling import Told


def test_data_list_and_verify(call: Callable[..., Told], tmp_path: Path) -> None:
    told = call("data", "list")
    assert told.code == 0
    for held in components("dataset"):
        assert held.name in told.out
    here = tmp_path / "data"
    here.mkdir()
    told = call("data", "verify", "mnist", "--data-dir", str(here))
    assert (told.code, told.err) == (1, f"error: mnist: no copy in {here}\n")
    assert call("data", "verify", "digits").out == "digits: no copy to verify\n"


def test_a_damaged_copy_fails_its_verification(call: Callable[..., Told], tmp_path: Path) -> None:
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    for name in names:
        (tmp_path / f"{name}-ubyte").write_bytes(b"damaged")
    told = call("data", "verify", "mnist", "--data-dir", str(tmp_path))
    assert told.code == 1
    assert "train-images-idx3-ubyte" in told.err
    assert "sha256" in told.err
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    told = call("data", "verify", "mnist", "--data-dir", str(tmp_path))
    assert (told.code, told.out) == (1, "")
    assert "files are missing" in told.err


def test_list_says_where_a_folder_of_ones_own_is_looked_for(call: Callable[..., Told]) -> None:
    told = " ".join(call("data", "list").out.split())
    assert "one per client, and test.npz. (lies where data.dir says)" in told
    assert "(needs no files)" in told  # what another package brings
