"""What cannot be run is refused before anything is written, and nothing is written over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import fedsieve
from fedsieve.experiments.toml import ConfigError
from fedsieve.learning.data import Dataset
from tests.experiments.small_runs import settings


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"round": 3}, "did you mean rounds?"),
        ({"rounds": 0}, "rounds=0"),
        ({"privacy": {"epsilon": -1.0}}, "privacy.epsilon=-1.0"),
        ({"federation": {"clients": 6, "byzantine": 6}}, "federation.byzantine=6"),
        ({"algorithm": {"batch": 31}}, "algorithm.batch=31 exceeds the 30 records"),
        ({"projection": {"name": "random-mask", "k": 52}}, "projection.k=52 exceeds"),
        ({"data": {"partition": "natural"}}, "data.partition='natural'"),
        ({"device": "cuda:99"}, "device='cuda:99'"),
        ({"model": {"name": "custom:Little"}}, "give it to fedsieve.run"),
        (
            {
                "rounds": 1,
                "federation": {"clients": 1, "dropout": 0.999},
                "privacy": {"epsilon": 1.0},
            },
            "no client ever sends anything",
        ),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_written(
    own: Dataset, tmp_path: Path, changes: dict[str, Any], part: str
) -> None:
    with pytest.raises(ConfigError) as refusal:
        fedsieve.run(settings(**changes), tmp_path / "run", data=own)
    assert part in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("undrawn")
def test_no_run_is_written_over(own: Dataset, tmp_path: Path) -> None:
    fedsieve.run(settings(), tmp_path, data=own)
    with pytest.raises(ConfigError, match="holds a finished run"):
        fedsieve.run(settings(), tmp_path, data=own)
    (tmp_path / "summary.json").unlink()
    with pytest.raises(ConfigError, match=r"not finished; .* continue it with: fedsieve resume"):
        fedsieve.run(settings(), tmp_path, data=own)
    with pytest.raises(ConfigError, match="holds no run"):
        fedsieve.resume(tmp_path / "checkpoints")


def test_files_of_others_are_not_written_over(own: Dataset, tmp_path: Path):
    (tmp_path / "config.toml").write_text("title = 'mine'")
    with pytest.raises(ConfigError, match=r"holds config\.toml, which no run"):
        fedsieve.run(settings(), tmp_path, data=own)
    assert (tmp_path / "config.toml").read_text() == "title = 'mine'"
