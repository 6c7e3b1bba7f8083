"""What of the caller's own objects is recognised, and what may change."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedsieve.aggregation import NNM, TrimmedMean
from fedsieve.experiments.fingerprints import fingerprints
from fedsieve.learning.data import Dataset


def of(**objects: Any) -> list[str]:
    return list(fingerprints(objects).values())


class Features(nn.Module):
    """Random features, which are not trained, and what is trained on them."""

    def __init__(self, seed: int, scale: float = 1.0, frozen: float = 1.0) -> None:
        super().__init__()
        drawn = torch.randn(16, 8, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("drawn", drawn)
        self.fixed = nn.Parameter(torch.tensor(frozen), requires_grad=False)
        self.scale = scale
        self.layer = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.scale * self.fixed * x.flatten(1) @ self.drawn)


def test_a_model_is_all_of_it_that_is_not_trained() -> None:
    begun = of(model=Features(0))
    assert of(model=Features(0).eval()) == begun  # with other parameters, drawn anew
    others = [Features(1), Features(0, scale=2.0), Features(0, frozen=2.0)]
    assert all(of(model=other) != begun for other in others)


def test_code_counts_by_what_it_does() -> None:
    def networks(sign: int) -> type[nn.Module]:
        bodies = {1: "x", -1: "-x"}
        held: dict[str, Any] = {"nn": nn}
        source = f"class Own(nn.Module):\n    def forward(self, x):\n        return {bodies[sign]}"
        exec(source, held)
        return held["Own"]

    assert of(model=networks(1)()) == of(model=networks(1)())
    assert of(model=networks(1)()) != of(model=networks(-1)())
    one, other = nn.Linear(2, 2), nn.Linear(2, 2)
    one.reduce = lambda x: x.sum()
    other.reduce = lambda x: x.mean()
    assert of(model=one) != of(model=other)


@dataclass(frozen=True, repr=False)
class Silent:
    """Settings that no ``repr`` tells."""

    held: Any


def test_settings_count_however_deep() -> None:
    assert of(rule=NNM(1) >> TrimmedMean(1)) == of(rule=NNM(1) >> TrimmedMean(1))
    assert of(rule=NNM(1) >> TrimmedMean(1)) != of(rule=NNM(2) >> TrimmedMean(1))
    assert of(rule=Silent(Silent(1))) == of(rule=Silent(Silent(1)))
    assert of(rule=Silent(Silent(1))) != of(rule=Silent(Silent(2)))
    long = np.zeros(5000)
    assert of(attack=Silent(long)) == of(attack=Silent(long.copy()))
    assert of(attack=Silent(long)) != of(attack=Silent(np.r_[long[:2500], 1.0, long[2501:]]))
    assert of(attack=Silent(torch.zeros(3))) != of(attack=Silent(torch.ones(3)))


def test_parts_count_in_any_order_within() -> None:
    assert of(parts=[[0, 1], [2, 3]]) == of(parts=[np.array([1, 0]), (3, 2)])
    assert of(parts=[[0, 1], [2, 3]]) != of(parts=[[0, 2], [1, 3]])


@pytest.mark.parametrize("change", ["x", "y_test", "mean", "owners"])
def test_data_without_checksums_count_by_what_they_are(own: Dataset, change: str) -> None:
    bare = replace(own, checksums={}, owners=torch.zeros(180, dtype=torch.int64))
    other = 0.1 if change == "mean" else getattr(bare, change).flip(0).contiguous()
    if change == "owners":
        other = bare.owners + 1
    assert of(data=bare) == of(data=replace(bare, x=bare.x.clone()))
    assert of(data=bare) != of(data=replace(bare, **{change: other}))


def test_another_process_finds_the_same() -> None:
    program = """
from torch import nn
from fedsieve.experiments.fingerprints import fingerprints
class Own(nn.Module):
    def forward(self, x, words={"one", "two", "three"}):
        return x if "one" in {"one", "two", "three"} else -x
model = nn.Sequential(nn.Linear(2, 2), Own())
model.tell = lambda x: x in {"one", "two", "three"}
class Rule: pass
print(fingerprints({"model": model, "rule": Rule(), "attack": None}))
"""
    told = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(told) == 1
    assert "'rule'" in (one := told.pop())
    assert "'attack'" not in one
