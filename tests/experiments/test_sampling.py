"""Shuffled batches and random allocation in runs: what is charged, told, resumed and refused."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

import fedsieve
from fedsieve.experiments import statement, toml
from fedsieve.experiments.build import Objects, build
from fedsieve.experiments.released import released
from fedsieve.experiments.run_directory import JOURNAL, RunDirectory
from fedsieve.experiments.toml import ConfigError
from fedsieve.learning.data import Batch, Dataset, Shards
from fedsieve.learning.datasets.own import from_arrays
from fedsieve.privacy import Sampling, epsilon
from fedsieve.simulation.loop import Simulation

pytestmark = pytest.mark.usefixtures("undrawn")

WAYS: tuple[Sampling, ...] = ("shuffled", "random-allocation")
DELTA = 1e-5


@pytest.fixture(scope="module")
def own() -> Dataset:
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 150, size=(3, 1, 4, 4))
    y = rng.integers(3, size=260)
    x = (patterns[y] + rng.integers(0, 100, size=(260, 1, 4, 4))).astype(np.uint8)
    return from_arrays(x[:200], y[:200], x[200:], y[200:], mean=0.5, std=0.3)


def settings(
    way: Sampling, privacy: dict[str, Any] | None = None, **changes: Any
) -> dict[str, Any]:
    """Four clients of 50 records, in epochs of 6 steps."""
    private = {"noise_multiplier": 2.0, "noise_seed": 3, "relation": "zero-out", "sampling": way}
    return {
        "rounds": 8,
        "federation": {"clients": 4},
        "model": {"name": "mlp", "hidden": [8]},
        "algorithm": {"name": "sieve", "batch": 8, "lr": 0.5},
        "evaluation": {"every": 1},
        "privacy": private | (privacy or {}),
        "checkpoint": {"every": 1},
        **changes,
    }


LOCAL = {"algorithm": {"name": "fedavg", "batch": 8, "local_steps": 4}}


def without_times(table: pa.Table) -> dict[str, str]:
    """As text, in which one NaN (the weight of a client that is away) equals another."""
    kept = [n for n in table.column_names if not n.startswith("seconds")]
    return {n: repr(table[n].to_pylist()) for n in kept}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("changes", "epochs"), [({}, 2), (LOCAL, 6), ({"rounds": 6}, 1)])
def test_epochs_are_charged_as_they_begin(
    way: Sampling, changes: dict[str, Any], epochs: int, own: Dataset
) -> None:
    result = fedsieve.run(settings(way, **changes), data=own)
    wanted = epsilon(2.0, 1 / 6, epochs, DELTA, "zero-out", sampling=way)
    assert result.summary["epsilon"] == wanted.epsilon
    assert result.summary["sampling"] == way
    spent = result.metrics["epsilon"].to_pylist()
    assert spent == sorted(spent)
    steps = 4 if changes is LOCAL else 1
    begun = [math.ceil((t + 1) * steps / 6) for t in range(len(spent))]
    costs = {n: epsilon(2.0, 1 / 6, n, DELTA, "zero-out", sampling=way).epsilon for n in set(begun)}
    assert spent == [costs[n] for n in begun]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("changes", [{}, LOCAL, {"federation": {"clients": 4, "dropout": 0.4}}])
def test_no_record_is_used_twice_in_an_epoch_whoever_is_away(
    way: Sampling, changes: dict[str, Any], own: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[tuple[int, np.ndarray]] = []
    gather = Shards.gather

    def watched(self: Shards, records: np.ndarray, counts: tuple[int, ...]) -> Batch:
        owner = {int(r): c for c, part in enumerate(self.parts) for r in part}
        for client in range(len(self.parts)):
            used.append((client, np.array([r for r in records if owner[int(r)] == client])))
        return gather(self, records, counts)

    monkeypatch.setattr(Shards, "gather", watched)
    with Simulation(build(toml.parse(settings(way, **changes)), Objects(data=own)).job) as run:
        for _ in range(8):
            run.step()
        charged = run.job.ledger.spent() if run.job.ledger is not None else {}
    for client in range(4):
        times = Counter(int(r) for c, records in used if c == client for r in records)
        assert max(times.values(), default=0) <= charged.get(client, 0)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "changes", [{}, LOCAL, {"federation": {"clients": 4, "participation": 0.5}}]
)
def test_a_resumed_run_goes_on_bit_for_bit(
    way: Sampling,
    changes: dict[str, Any],
    own: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = settings(way, **changes)
    whole = fedsieve.run(config, tmp_path / "whole", data=own)
    cut(config, tmp_path / "cut", own, monkeypatch, at=4)
    resumed = fedsieve.resume(tmp_path / "cut", data=own)
    assert torch.equal(resumed.theta, whole.theta)
    assert without_times(resumed.metrics) == without_times(whole.metrics)
    assert resumed.summary["epsilon"] == whole.summary["epsilon"]


def cut(
    config: dict[str, Any], where: Path, own: Dataset, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """A run that ends in this round."""
    step = Simulation.step

    def failing(self: Simulation) -> dict[str, Any]:
        if self.round == at:
            raise RuntimeError("power cut")
        return step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Simulation, "step", failing)
        with pytest.raises(RuntimeError, match="power cut"):
            fedsieve.run(config, where, data=own)


@pytest.mark.parametrize("way", WAYS)
def test_without_a_noise_seed_a_resumed_run_begins_and_pays_new_epochs(
    way: Sampling, own: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its permutation died with the process: 4 steps of one epoch, then 6 rounds of two others."""
    config = settings(way, {"noise_seed": None}, rounds=11)
    cut(config, tmp_path / "cut", own, monkeypatch, at=4)
    resumed = fedsieve.resume(tmp_path / "cut", data=own)
    wanted = epsilon(2.0, 1 / 6, 3, DELTA, "zero-out", sampling=way)
    assert resumed.summary["epsilon"] == wanted.epsilon
    lines = (tmp_path / "cut" / JOURNAL).read_text().splitlines()
    begun = [sum(charge[2] for charge in json.loads(line)["charges"]) for line in lines]
    assert begun == [1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1]


def test_workers_compute_what_one_process_does(own: Dataset) -> None:
    for way in WAYS:
        one, two = (
            fedsieve.run(settings(way, **LOCAL, rounds=3, workers=w), data=own) for w in (1, 2)
        )
        assert torch.equal(one.theta, two.theta)


@pytest.mark.parametrize("way", ["poisson", *WAYS])
def test_a_target_is_met_with_each_way_on_the_embedded_subset(
    way: Sampling, tmp_path: Path
) -> None:
    private = {"epsilon": 8.0, "noise_multiplier": None}
    config = settings(way, {k: v for k, v in private.items() if v})
    del config["privacy"]["noise_multiplier"]
    config |= {"data": {"name": "digits"}, "rounds": 25, "evaluation": {"every": 25}}
    config["algorithm"] = {"name": "sieve", "batch": 30}
    result = fedsieve.run(config, tmp_path / "run")
    summary = result.summary
    assert 7.9 < summary["epsilon"] <= 8.0
    assert summary["test_accuracy"] > 0.2  # of ten classes
    words = {
        "poisson": "Poisson",
        "shuffled": "shuffled batches",
        "random-allocation": "allocation",
    }
    for text in (
        statement.privacy_line(summary),
        " ".join(statement.privacy(summary, result.config.model_dump())),
        statement.drawn(summary, result.config.model_dump()),
        " ".join(one.cost for one in released(RunDirectory.open(tmp_path / "run"))),
    ):
        assert words[way] in text
        assert way == "poisson" or "Poisson" not in text


@pytest.mark.parametrize(
    ("way", "privacy", "told"),
    [
        ("shuffled", {"relation": "add-remove"}, "privacy.relation='zero-out' and 'replace-one'"),
        ("shuffled", {"unit": "client"}, "every participation counts in full"),
        ("random-allocation", {"trust": "distributed"}, "an epoch is paid for when it begins"),
        ("random-allocation", {"noise": "skellam"}, "known for Gaussian noise only"),
        ("bins", {}, "sampling"),
    ],
)
def test_what_has_no_valid_accounting_is_refused(
    way: Sampling, privacy: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        toml.parse(settings(way, privacy))


@pytest.mark.parametrize("way", WAYS)
def test_other_mechanisms_go_with_epochs(way: Sampling, own: Dataset) -> None:
    allowed: list[dict[str, Any]] = [
        {"clip_quantile": 0.5},
        {"trust": "central"},
        {"relation": "replace-one"},
    ]
    allowed += [{"noise": "discrete-gaussian"}] if way == "shuffled" else []
    for privacy in allowed:
        result = fedsieve.run(settings(way, privacy, rounds=2), data=own)
        assert result.summary["epsilon"] > 0
