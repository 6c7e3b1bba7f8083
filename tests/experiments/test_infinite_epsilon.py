"""A run with next to no noise: nothing finite is claimed, and nothing untrue said instead."""

from __future__ import annotations

from pathlib import Path

import pytest

import fedsieve
from fedsieve.experiments import statement
from fedsieve.experiments.released import released
from fedsieve.experiments.run_directory import RunDirectory

TINY = {
    "rounds": 1,
    "data": {"name": "digits"},
    "model": {"name": "softmax"},
    "federation": {"clients": 3, "byzantine": 0},
    "privacy": {"noise_multiplier": 1e-200},
}


@pytest.mark.usefixtures("undrawn")
def test_noise_without_a_finite_epsilon_is_not_called_no_noise(tmp_path: Path) -> None:
    result = fedsieve.run(TINY, tmp_path / "run")
    assert result.summary["epsilon"] is None
    told = statement.privacy(result.summary, TINY)
    assert len(told) == 1
    assert "added no noise" not in told[0]
    for said in (told[0], statement.privacy_line(result.summary)):
        assert "no finite epsilon is known to hold" in said
    run = RunDirectory(tmp_path / "run")
    messages, *rest = released(run)
    assert "no finite epsilon is known to hold" in messages.cost
    sampled = next(one for one in rest if one.what.startswith("seconds_client"))
    assert "summary.json" in sampled.what
    assert run.summary()["seconds_by_phase"]["client"] > 0
