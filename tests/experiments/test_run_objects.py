"""`fedsieve.run` with objects of the caller in the place of named ones."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fedsieve
from fedsieve.aggregation import CAF, Mean, TrimmedMean
from fedsieve.compression.projections import RandomMask
from fedsieve.experiments.toml import ConfigError
from fedsieve.learning.data import Dataset
from fedsieve.poisoning import ALIE, Knowledge, MessageAttack, Scene
from tests.experiments.small_runs import settings


class Little(nn.Module):
    """A network as a user would write it."""

    def __init__(self) -> None:
        super().__init__()
        torch.nn.init.zeros_((layer := nn.Linear(16, 3)).weight)
        torch.nn.init.zeros_(layer.bias)
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(1))


@dataclass(frozen=True)
class Silence(MessageAttack):
    """Malicious clients send nothing but zeros."""

    @property
    def knowledge(self) -> Knowledge:
        return Knowledge.NOTHING

    def craft(self, scene: Scene) -> Tensor:
        return torch.zeros(scene.f, scene.honest.shape[1])


@pytest.mark.usefixtures("undrawn")
def test_own_objects_take_the_place_of_named_ones(own: Dataset, tmp_path: Path) -> None:
    model, there = Little(), tmp_path / "run"
    objects: dict[str, Any] = {
        "model": model,
        "data": own,
        "parts": [np.arange(c, 180, 6)[::-1] for c in range(6)],
        "rule": TrimmedMean(2),
        "attack": Silence(),
        "projection": RandomMask(k=40, refresh=0),
    }
    attacked = settings(federation={"clients": 6, "byzantine": 2})
    result = fedsieve.run(attacked, there, **objects)
    named = {
        "model": "Little",
        "dataset": "own",
        "rule": "TrimmedMean",
        "attack": "Silence",
        "projection": "RandomMask",
        "dimension": 51,
        "message_dimension": 40,
    }
    assert {key: result.summary[key] for key in named} == named
    counts = json.loads((there / "partition.json").read_text())["counts"]
    assert np.sum(counts, axis=1).tolist() == [30] * 6
    assert not model.layer.weight.any()  # the caller's object is left alone
    # a mean of four messages and two zeros is a shorter mean
    shorter = fedsieve.run(attacked | {"rounds": 1}, **(objects | {"rule": Mean()}))
    unattacked = fedsieve.run(
        settings(rounds=1, federation={"clients": 4}),
        **(objects | {"attack": None, "rule": Mean(), "parts": objects["parts"][:4]}),
    )
    torch.testing.assert_close(shorter.theta, unattacked.theta * 4 / 6)

    # what was run with objects goes on with the same objects, and with nothing less
    (there / "summary.json").unlink()
    with pytest.raises(ConfigError, match=r"model.name='custom:Little'.*as model=, data=, parts="):
        fedsieve.resume(there)
    with pytest.raises(ConfigError, match=r"^model.name='custom:Little': .* as model=$"):
        fedsieve.resume(there, **{k: v for k, v in objects.items() if k != "model"})
    again = fedsieve.resume(there, **objects)
    assert torch.equal(again.theta, result.theta)


class Constant(MessageAttack):
    """Malicious clients send the same number everywhere."""

    def __init__(self, sent: float) -> None:
        self.sent = sent

    @property
    def knowledge(self) -> Knowledge:
        return Knowledge.NOTHING

    def craft(self, scene: Scene) -> Tensor:
        return torch.full((scene.f, scene.honest.shape[1]), self.sent)


def network(activation: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 4), activation, nn.Linear(4, 3))


@pytest.mark.usefixtures("undrawn")
def test_other_objects_than_those_of_the_start_are_refused(own: Dataset, tmp_path: Path) -> None:
    """Else one noise would cover two messages: that of the start, and another one."""
    there = tmp_path / "run"
    objects: dict[str, Any] = {
        "model": network(nn.Tanh()),
        "parts": [np.arange(c, 180, 6) for c in range(6)],
        "rule": TrimmedMean(1),
        "attack": Constant(0.0),
        "projection": RandomMask(k=40, refresh=0),
    }
    private = {"noise_multiplier": 2.0, "noise_seed": 1}
    attacked = settings(federation={"clients": 6, "byzantine": 1}, privacy=private)
    begun = fedsieve.run(attacked, there, data=own, **objects)
    (there / "summary.json").unlink()
    others: dict[str, Any] = {
        "model": network(nn.ReLU()),
        "parts": objects["parts"][::-1],
        "rule": TrimmedMean(2),
        "attack": Constant(1.0),
    }
    for name, other in others.items():
        with pytest.raises(ConfigError, match=f"started with another {name}; give"):
            fedsieve.resume(there, data=own, **(objects | {name: other}))
    with pytest.raises(ConfigError, match="another attack, another data, another model"):
        fedsieve.resume(there, data=replace(own, mean=0.4), **(objects | others))

    manifest = json.loads((there / "manifest.json").read_text())
    assert sorted(manifest.pop("objects")) == sorted([*objects, "data"])
    same = objects | {"model": network(nn.Tanh()), "rule": TrimmedMean(1), "attack": Constant(0.0)}
    again = fedsieve.resume(there, data=own, **same)
    assert torch.equal(again.theta, begun.theta)
    # a run that was begun when nothing was written down of its objects goes on
    (there / "manifest.json").write_text(json.dumps(manifest))
    (there / "summary.json").unlink()
    fedsieve.resume(there, data=own, **(same | {"model": network(nn.ReLU())}))


def test_an_unknown_object_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(TypeError, match=r"modle: no object .* allowed are model, data, parts"):
        fedsieve.run(modle=None)


def test_a_named_rule_and_the_same_rule_as_an_object_agree(own: Dataset) -> None:
    attacked = settings(federation={"clients": 6, "byzantine": 2}, attack={"name": "alie"})
    named = fedsieve.run(attacked | {"aggregation": {"rule": "caf"}}, data=own)
    passed = fedsieve.run(
        settings(federation={"clients": 6, "byzantine": 2}),
        data=own,
        rule=CAF(2),
        attack=ALIE(),
    )
    assert torch.equal(named.theta, passed.theta)


@pytest.mark.parametrize(
    ("objects", "part"),
    [
        ({"rule": CAF(3)}, r"CAF\(f=3\) does not allow f=3 with n=6; largest legal f is 2"),
        ({"parts": []}, "hold no record"),
        ({"parts": [[0, 1], []]}, r"clients \[1\] of 2 hold no record"),
        ({"parts": [[0, 1], [2, 180]]}, r"positions 0\.\.180 must lie in 0\.\.179"),
        ({"parts": [[0, 1], [1, 2]]}, "record 1 is dealt 2 times"),
        ({"parts": [[0, 1], [2.5, 3.0]]}, r"parts\[1\] holds float64; allowed are positions"),
        ({"parts": [[True, False], [False, True]]}, r"parts\[0\] holds bool"),
        ({"model": nn.Sequential()}, "Sequential has no parameters to train"),
        ({"model": nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16))}, "BatchNorm1d"),
        ({"model": nn.Flatten()}, "no parameters to train"),
    ],
)
def test_objects_that_cannot_be_used_are_refused_before_anything_is_written(
    own: Dataset, tmp_path: Path, objects: dict[str, Any], part: str
) -> None:
    with pytest.raises(ConfigError, match=part):
        fedsieve.run(settings(), tmp_path / "run", **({"data": own} | objects))
    assert list(tmp_path.iterdir()) == []
