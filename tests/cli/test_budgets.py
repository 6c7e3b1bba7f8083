"""`fedsieve privacy epsilon` and `noise`: there and back, and refusals."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.cli.telling import Told, bad_input


def test_privacy_there_and_back(call: Callable[..., Told]) -> None:
    job = ("--sampling-rate", "0.01", "--steps", "1000", "--delta", "1e-5")
    spent = json.loads(call("privacy", "epsilon", "--noise-multiplier", "1", *job, "--json").out)
    # dp-accounting's published PLD value for this job is 1.828
    assert spent["epsilon"] == pytest.approx(1.828, abs=2e-3)
    assert (spent["noise_multiplier"], spent["relation"]) == (1.0, "add-remove")
    assert "PLD" in spent["accountant"]
    back = json.loads(
        call("privacy", "noise", "--epsilon", str(spent["epsilon"]), *job, "--json").out
    )
    assert back["noise_multiplier"] == pytest.approx(1.0, rel=1e-3)
    assert back["epsilon"] <= spent["epsilon"]
    assert {"epsilon", "noise_multiplier", "relation", "accountant"} <= set(back)


def test_privacy_relations_and_words(call: Callable[..., Told]) -> None:
    job = ("--noise-multiplier", "2", "--sampling-rate", "1", "--steps", "10", "--delta", "1e-5")

    def epsilon(*more: str) -> float:
        return float(json.loads(call("privacy", "epsilon", *job, "--json", *more).out)["epsilon"])

    assert epsilon("--relation", "replace-one") > epsilon("--relation", "add-remove")
    told = call("privacy", "epsilon", *job).out
    for words in ("unit: record", "added or removed", "delta = 1e-05", "exact Gaussian"):
        assert words in told


@pytest.mark.parametrize(
    ("option", "value", "part"),
    [
        ("--noise-multiplier", "0", "noise_multiplier=0.0"),
        ("--sampling-rate", "1.5", "sampling_rate=1.5"),
        ("--steps", "-1", "steps=-1"),
        ("--steps", "many", "--steps"),
        ("--delta", "0", "delta=0.0"),
        ("--relation", "swap", "relation='swap'"),
    ],
)
def test_privacy_refuses(call: Callable[..., Told], option: str, value: str, part: str) -> None:
    job = {
        "--noise-multiplier": "1",
        "--sampling-rate": "0.1",
        "--steps": "10",
        "--delta": "1e-5",
        option: value,
    }
    words = [word for pair in job.items() for word in pair]
    assert part in bad_input(call("privacy", "epsilon", *words))
