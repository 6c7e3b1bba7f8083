"""The round that is written out in examples/minimal.py is the round that the library computes."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fedsieve
from fedsieve.learning.datasets.own import from_arrays


@pytest.fixture(scope="module")
def script(root: Path) -> Path:
    return root / "examples" / "minimal.py"


@pytest.fixture
def minimal(script: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("minimal", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def library(minimal: ModuleType) -> Callable[[int], fedsieve.Result]:
    """The same federation in the library's words, on the same arrays."""
    m = minimal
    made = [m.images(m.RECORDS, m.stream(m.SEED, m.PUBLIC, i)) for i in range(m.CLIENTS)]
    x = torch.cat([x for x, _ in made]).view(-1, m.SIDE, m.SIDE)
    y = torch.cat([y for _, y in made])
    model = nn.Sequential(nn.Flatten(), nn.Linear(m.SIDE**2, m.CLASSES))
    nn.utils.vector_to_parameters(torch.zeros(m.D), model.parameters())
    config = {
        "seed": m.SEED,
        "federation": {"clients": m.CLIENTS, "byzantine": m.BYZANTINE},
        "algorithm": {"name": "sieve", "lr": m.LR, "momentum": m.MOMENTUM, "batch": m.BATCH},
        "projection": {"name": "dct", "k": m.K},
        "privacy": {"noise_multiplier": m.SIGMA, "clip": m.CLIP, "noise_seed": m.NOISE_SEED},
        "attack": {"name": "alie", "strength": m.STRENGTH},
        "aggregation": {"rule": "caf"},
    }

    def run(rounds: int) -> fedsieve.Result:
        return fedsieve.run(
            config | {"rounds": rounds},
            data=from_arrays(x.numpy(), y.numpy(), x[:9].numpy(), y[:9].numpy()),
            parts=tuple(np.split(np.arange(len(y)), m.CLIENTS)),
            model=model,
        )

    return run


def same(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("rounds", [1, 3])
def test_both_compute_the_same_model(
    minimal: ModuleType, library: Callable[[int], fedsieve.Result], rounds: int
) -> None:
    result = library(rounds)
    assert (result.summary["dimension"], result.summary["message_dimension"]) == (195, 33)
    assert float(result.theta.norm()) > 0.01  # it has moved
    same(minimal.train(rounds), result.theta)


def test_both_weigh_the_clients_alike(
    minimal: ModuleType,
    library: Callable[[int], fedsieve.Result],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caf, told = minimal.caf, []
    monkeypatch.setattr(minimal, "caf", lambda gram, f: told.append(caf(gram, f)) or told[-1])
    minimal.train(3)
    expected = library(3).metrics.column("weights").to_pylist()
    np.testing.assert_allclose(told, expected, rtol=1e-4, atol=1e-7)
    assert np.std(told) > 0.01  # not the mean in disguise


@pytest.mark.parametrize(
    "name", ["SEED", "NOISE_SEED", "BATCH", "CLIP", "SIGMA", "MOMENTUM", "LR", "STRENGTH"]
)
def test_every_setting_matters(
    minimal: ModuleType, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    before = minimal.train(2)
    monkeypatch.setattr(minimal, name, type(getattr(minimal, name))(getattr(minimal, name) * 1.5))
    assert float((minimal.train(2) - before).norm()) > 1e-3


def test_it_fits_on_two_screens_and_needs_numpy_and_torch_only(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 120
    imported = {
        alias.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert imported == {"numpy", "torch"}


def test_it_runs_as_a_script(script: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.startswith("33 of 195 numbers sent, accuracy after 30 rounds: 9")
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""
