"""`fedsieve.run` and `fedsieve.resume` as a user calls them: what a run gives."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import fedsieve
from fedsieve.experiments import run as running
from fedsieve.experiments import toml
from fedsieve.experiments.build import Objects, build
from fedsieve.experiments.metrics import PHASES, SCHEMA
from fedsieve.experiments.released import released
from fedsieve.experiments.run_directory import RunDirectory
from fedsieve.experiments.summary import FURTHER, Summary
from fedsieve.learning.data import Dataset
from fedsieve.randomness import Streams
from tests.experiments.small_runs import PRIVATE, settings

SUMMARY_KEYS = [
    "algorithm",
    "dataset",
    "model",
    "seed",
    "n_clients",
    "n_byzantine",
    "attack",
    "rule",
    "projection",
    "dimension",
    "message_dimension",
    "rounds",
    "test_accuracy",
    "test_loss",
    "epsilon",
    "delta",
    "privacy_unit",
    "neighbouring_relation",
    "accountant",
    "noise_multiplier",
    "noise_source",
    "uplink_bits_per_client_round",
    "downlink_bits_per_client_round",
    "seconds_total",
    "seconds_by_phase",
    "peak_memory_bytes",
]
"""Of summary.json, exactly and in this order."""

PRIVACY_KEYS = SUMMARY_KEYS[SUMMARY_KEYS.index("epsilon") : SUMMARY_KEYS.index("noise_source") + 1]


FRESH = Streams(0).noise_source  # its words are tested in test_randomness


def test_a_run_in_memory(own: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    result = fedsieve.run(settings(rounds=30), data=own)
    assert list(result.summary) == SUMMARY_KEYS
    assert result.directory is None
    assert list(tmp_path.iterdir()) == []
    assert result.theta.shape == (51,)
    assert result.summary["test_accuracy"] > 0.9
    assert all(result.summary[key] is None for key in PRIVACY_KEYS)
    exact = {
        "algorithm": "dshb",
        "dataset": "own",
        "model": "softmax",
        "seed": 0,
        "n_clients": 6,
        "n_byzantine": 0,
        "attack": "none",
        "rule": "mean",
        "projection": "identity",
        "dimension": 51,
        "message_dimension": 51,
        "rounds": 30,
        "downlink_bits_per_client_round": 32 * 51,
    }
    assert {key: result.summary[key] for key in exact} == exact
    assert 32 * 51 < result.summary["uplink_bits_per_client_round"] < 32 * 51 + 500  # a header
    assert result.summary["peak_memory_bytes"] > 10**8
    phases = result.summary["seconds_by_phase"]
    assert tuple(phases) == PHASES
    assert 0 < sum(phases.values()) < result.summary["seconds_total"]


def test_the_summary_has_the_keys_that_are_promised() -> None:
    always = [key for key in Summary.__dataclass_fields__ if key not in FURTHER]
    assert always == [key for key in SUMMARY_KEYS if key not in FURTHER]


@pytest.mark.usefixtures("undrawn")
def test_workers_that_never_compute_take_no_memory(own: Dataset) -> None:
    """All clients of DSHB compute in one pass, in this process."""
    resource = pytest.importorskip("resource", reason="Windows does not tell")
    subprocess.run([sys.executable, "-c", "pass"], check=True)  # a child that counts for none
    alone = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    summary = fedsieve.run(settings(workers="auto"), data=own).summary
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 1 if sys.platform == "darwin" else 1024
    assert unit * alone <= summary["peak_memory_bytes"] <= unit * after


def test_a_row_per_round(own: Dataset) -> None:
    attacked = settings(
        federation={"clients": 6, "byzantine": 1},
        attack={"name": "sign-flip"},
        aggregation={"rule": "trimmed-mean", "pre": ["nnm"]},
        privacy=PRIVATE,
    )
    result = fedsieve.run(attacked, data=own)
    assert result.metrics.schema == SCHEMA
    rows = result.metrics.to_pylist()
    assert [row["round"] for row in rows] == list(range(6))
    assert [row["accuracy"] is not None for row in rows] == [False, True] * 3
    spent = [row["epsilon"] for row in rows if row["epsilon"] is not None]
    assert spent == sorted(spent)
    assert spent[-1] == result.summary["epsilon"]
    assert rows[-1]["accuracy"] == result.summary["test_accuracy"]
    for row in rows:
        assert (row["senders"], row["rejected"], row["skipped"]) == (6, 0, False)
        # a rule that has no weights at hand is asked for them where the model is tested, too
        assert (row["weights"] is None) == (row["accuracy"] is None)
        if row["weights"] is not None:
            assert len(row["weights"]) == 6
            assert sum(row["weights"]) == pytest.approx(1)
        assert row["aggregation_error"] > 0
        assert row["noise_norm"] > 0
        assert 0 <= row["clipped_fraction"] <= 1
        assert row["bits_down"] == 6 * 32 * 51
    assert result.summary["rule"] == "nnm >> trimmed-mean"
    bits = sum(row["bits_up"] for row in rows) / 36
    assert result.summary["uplink_bits_per_client_round"] == bits


def test_a_run_with_a_directory_leaves_everything_behind(own: Dataset, tmp_path: Path) -> None:
    there = tmp_path / "runs" / "first"
    result = fedsieve.run(settings(privacy=PRIVATE), there, data=own)
    assert result.directory == there
    files = {p.relative_to(there).as_posix() for p in there.rglob("*") if p.is_file()}
    assert {name for name in files if "/" not in name} == {
        "config.toml",
        "ledger.jsonl",
        "manifest.json",
        "metrics.parquet",
        "model.safetensors",
        "partition.json",
        "report.html",
        "summary.json",
    }
    kept = {path.name for path in (there / "checkpoints").iterdir()}
    assert kept == {"round-000003", "round-000006"}
    assert any(name.startswith("figures/") for name in files)
    assert json.loads((there / "summary.json").read_text()) == result.summary
    manifest = json.loads((there / "manifest.json").read_text())
    assert manifest["seeds"] == {"seed": 0, "noise_seed": 3, "noise_source": "simulation seed 3"}
    assert manifest["data"]["checksums"] == own.checksums
    partition = json.loads((there / "partition.json").read_text())
    assert np.array(partition["counts"]).sum() == 180

    again = fedsieve.resume(there)  # finished: returned as it is
    assert again.summary == result.summary
    assert torch.equal(again.theta, result.theta)
    assert again.metrics.equals(result.metrics)


@pytest.mark.usefixtures("undrawn")
def test_the_configuration_left_behind_gives_the_same_run(tmp_path: Path) -> None:
    """Complete: nothing in it depends on defaults, and it can be run as it is."""
    given = settings(
        rounds=3,
        seed=11,
        data={"name": "digits", "partition": "dirichlet", "alpha": 1.0},
        algorithm={"name": "sieve"},
        federation={"clients": 6, "byzantine": 1, "participation": 0.7},
        attack={"name": "alie"},
        privacy=PRIVATE,
    )
    first = fedsieve.run(given, tmp_path / "first")
    second = fedsieve.run(tmp_path / "first" / "config.toml", tmp_path / "second")
    assert torch.equal(first.theta, second.theta)
    assert first.summary["epsilon"] == second.summary["epsilon"]
    texts = [(tmp_path / name / "config.toml").read_text() for name in ("first", "second")]
    assert texts[0] == texts[1]
    assert toml.parse(given) != first.config == second.config
    assert first.config.algorithm.lr is not None
    assert first.config.projection.name == "dct"
    third = fedsieve.run(first.config)
    assert torch.equal(first.theta, third.theta)


@pytest.mark.parametrize("trust", ["local", "distributed", "central"])
def test_the_grid_of_continuous_noise_is_recorded(own: Dataset, trust: str) -> None:
    moving = {"clip_quantile": 0.5, "clip_noise": 5.0} if trust == "local" else {}
    rule = {} if trust == "distributed" else {"aggregation": {"rule": "mean"}}
    given = settings(rounds=1, privacy=PRIVATE | {"trust": trust} | moving, **rule)
    built = build(toml.parse(given), Objects(data=own))
    noise = running.manifest_of(built)["noise"]
    scale = built.mechanism.noise_std
    if trust == "distributed":
        scale = built.noise.correlated.independent * built.noise.correlated.clip
        scale /= built.noise.correlated.batch
    assert 2.0**-21 * scale < noise["grid"] <= 2.0**-20 * scale
    assert np.frexp(noise["grid"])[0] == 0.5  # a power of two
    assert noise["count_grid"] == (2.0 ** (2 - 20) if moving else None)


def test_the_experiment_seed_never_seeds_the_noise(own: Dataset) -> None:
    secret = settings(rounds=1, privacy={"noise_multiplier": 2.0})
    one, other = (fedsieve.run(secret, data=own) for _ in range(2))
    assert one.summary["noise_source"] == FRESH
    assert not torch.equal(one.theta, other.theta)
    repeatable = settings(rounds=1, privacy=PRIVATE)
    one, other = (fedsieve.run(repeatable, data=own) for _ in range(2))
    assert one.summary["noise_source"] == "simulation seed 3"
    assert torch.equal(one.theta, other.theta)


@pytest.mark.parametrize("name", ["fedavg", "scaffold", "byrd-saga", "peer-to-peer", "sieve"])
def test_every_algorithm_by_name(own: Dataset, name: str) -> None:
    result = fedsieve.run(settings(algorithm={"name": name, "batch": 10}), data=own)
    assert result.summary["algorithm"] == name
    assert result.summary["test_loss"] < np.log(3)
    expected = (6, 51) if name == "peer-to-peer" else (51,)
    assert tuple(result.theta.shape) == expected


def test_false_labels(own: Dataset) -> None:
    poisoned = settings(
        federation={"clients": 6, "byzantine": 2}, attack={"name": "label-flip"}, rounds=30
    )
    naive = fedsieve.run(poisoned | {"aggregation": {"rule": "mean"}}, data=own)
    robust = fedsieve.run(poisoned | {"aggregation": {"rule": "caf"}}, data=own)
    assert naive.summary["attack"] == robust.summary["attack"] == "label-flip"
    assert robust.summary["test_loss"] < naive.summary["test_loss"]
    # they train as the others do, on false labels, and the recorded partition is that of the truth
    assert naive.metrics.column("senders").to_pylist() == [6] * 30


@pytest.mark.usefixtures("undrawn")
def test_weights_by_size_are_explained(own: Dataset, tmp_path: Path):
    plain = settings(algorithm={"name": "fedavg", "lr": 0.1}, rounds=2)
    fedsieve.run(plain, tmp_path / "plain", data=own)
    fedsieve.run(plain | {"privacy": PRIVATE}, tmp_path / "private", data=own)
    told = [[r.what for r in released(RunDirectory(tmp_path / d))] for d in ("plain", "private")]
    assert ["numbers of records n_i" in " ".join(what) for what in told] == [True, False]
