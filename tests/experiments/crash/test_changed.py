"""What may change between the start of a run and its end by others, and what may not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import fedsieve
from fedsieve.experiments import toml
from tests.experiments.crash.deaths import (
    ROUNDS,
    as_if_nothing_had_happened,
    undrawn,
)


def test_other_records_than_those_of_the_start_are_refused(
    corpse: Callable[[str], Path], place: Path, tmp_path: Path
) -> None:
    directory = corpse("between two checkpoints")
    records = Path(shutil.copytree(place / "records", tmp_path / "records"))
    (records / "f.npz").unlink()
    config = directory / "config.toml"
    config.write_text(config.read_text().replace(str(place / "records"), str(records)))
    with pytest.raises(toml.ConfigError, match="was started with data"):
        fedsieve.resume(directory)


@pytest.mark.parametrize("title", ["between two checkpoints", "entropy"])
def test_other_settings_than_those_of_the_start_are_refused(
    corpse: Callable[[str], Path], title: str
) -> None:
    directory = corpse(title)
    config = directory / "config.toml"
    begun = config.read_text()
    for was, now, names in (
        ("lr = 0.5", "lr = 0.25", "algorithm;"),
        ("noise_multiplier = 1.0", "noise_multiplier = 1.5", "privacy;"),
        ("seed = 5", "seed = 6", "seed;"),
        ("rounds = 10", "rounds = 11", "rounds;"),
    ):
        assert was in begun
        config.write_text(begun.replace(was, now, 1))
        with pytest.raises(toml.ConfigError, match=f"started with other settings of {names}"):
            fedsieve.resume(directory)


def test_what_influences_no_message_may_change(
    corpse: Callable[[str], Path], whole: Callable[..., Path], place: Path, tmp_path: Path
) -> None:
    directory = corpse("between two checkpoints")
    shutil.copytree(place / "records", tmp_path / "records")
    config = toml.load(directory / "config.toml").model_dump(exclude_none=True)
    config |= {"name": "moved", "workers": "auto", "checkpoint": {"every": 1}}
    config["data"]["dir"] = str(tmp_path / "records")
    (directory / "config.toml").write_text(toml.dump(toml.parse(config)))
    with undrawn():
        fedsieve.resume(directory)
        assert as_if_nothing_had_happened(directory, whole())


@pytest.mark.parametrize(
    ("section", "name", "value", "told"),
    [
        ("versions", "torch", "1.0", r"torch 1\.0, now \d"),
        ("versions", "numpy", "1.0", r"numpy 1\.0, now \d"),
        ("versions", "fedsieve", "0.0", r"fedsieve 0\.0, now \d"),
        ("machine", "device", "cuda NVIDIA H200", "device cuda NVIDIA H200, now cpu"),
    ],
)
def test_noise_that_repeats_wants_the_arithmetic_that_it_was_drawn_for(
    corpse: Callable[[str], Path], section: str, name: str, value: str, told: str
) -> None:
    """Else the same noise would cover two messages, and their difference would be bare."""
    directory = corpse("between two checkpoints")
    manifest = json.loads((directory / "manifest.json").read_text())
    manifest[section][name] = value
    (directory / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(toml.ConfigError, match=rf"with {told}.*noise_seed=3 repeats the noise"):
        fedsieve.resume(directory)


def test_fresh_noise_goes_on_with_any_version(corpse: Callable[[str], Path]) -> None:
    directory = corpse("entropy")
    manifest = json.loads((directory / "manifest.json").read_text())
    manifest["versions"]["torch"] = "1.0"
    (directory / "manifest.json").write_text(json.dumps(manifest))
    with undrawn():
        assert fedsieve.resume(directory).summary["rounds"] == ROUNDS
