"""`fedsieve.run` and `fedsieve.resume` as a user calls them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fedsieve
from fedsieve.aggregation import CAF, Mean, TrimmedMean
from fedsieve.compression.projections import RandomMask
from fedsieve.experiments import run as running
from fedsieve.experiments import toml
from fedsieve.experiments.build import Objects, build
from fedsieve.experiments.released import released
from fedsieve.experiments.run_directory import FURTHER, PHASES, SCHEMA, RunDirectory, Summary
from fedsieve.experiments.toml import ConfigError
from fedsieve.learning.data import Dataset
from fedsieve.learning.datasets.own import from_arrays
from fedsieve.poisoning import ALIE, Knowledge, MessageAttack, Scene
from fedsieve.privacy import epsilon
from fedsieve.randomness import Streams

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


@pytest.fixture(scope="module")
def own() -> Dataset:
    """Three kinds of 4 x 4 images, 30 for each of six clients."""
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 150, size=(3, 1, 4, 4))
    y = rng.integers(3, size=240)
    x = (patterns[y] + rng.integers(0, 100, size=(240, 1, 4, 4))).astype(np.uint8)
    return from_arrays(x[:180], y[:180], x[180:], y[180:], mean=0.5, std=0.3)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the figures out: they take longer than everything else."""
    monkeypatch.setattr(running, "report", lambda _: None)


def settings(**changes: Any) -> dict[str, Any]:
    return {
        "rounds": 6,
        "federation": {"clients": 6},
        "model": {"name": "softmax"},
        "algorithm": {"name": "dshb", "lr": 0.5, "momentum": 0.5, "batch": 10},
        "evaluation": {"every": 2},
        "checkpoint": {"every": 3},
        **changes,
    }


PRIVATE = {"noise_multiplier": 2.0, "noise_seed": 3}
FRESH = Streams(0).noise_source  # its words are tested in test_randomness


# ------------------------------------------------------------------------------ what a run gives


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


# ------------------------------------------------------------------------- the caller's own objects


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


# -------------------------------------------------------------------------------- privacy figures


def test_noise_is_calibrated_to_the_target(own: Dataset) -> None:
    result = fedsieve.run(settings(privacy={"epsilon": 3.0, "delta": 1e-4}), data=own)
    assert 2.97 < result.summary["epsilon"] <= 3.0
    assert result.summary["delta"] == 1e-4
    assert result.summary["privacy_unit"] == "record"
    assert result.summary["neighbouring_relation"] == "add-remove"
    assert result.summary["accountant"].startswith("PLD")
    mechanism = {"noise_multiplier": result.summary["noise_multiplier"], "delta": 1e-4}
    same = fedsieve.run(settings(privacy=mechanism), data=own)
    assert same.summary["epsilon"] == pytest.approx(result.summary["epsilon"])


@pytest.mark.parametrize("name", ["scaffold", "fedavg", "peer-to-peer"])
def test_every_local_step_counts_in_the_calibrated_noise(
    name: str, own: Dataset, undrawn: None
) -> None:
    algorithm = {"name": name, "lr": 0.1, "batch": 10, "local_steps": 4}
    result = fedsieve.run(settings(algorithm=algorithm, privacy={"epsilon": 3.0}), data=own)
    assert 2.97 < result.summary["epsilon"] <= 3.0
    sigma, delta = result.summary["noise_multiplier"], result.summary["delta"]
    by_hand = epsilon(sigma, 10 / 30, 6 * 4, delta)  # six rounds of four steps
    assert result.summary["epsilon"] == by_hand.epsilon


def test_the_budget_of_partial_participation_is_that_of_the_client_who_takes_part_most(
    own: Dataset,
) -> None:
    everybody = settings(privacy={"epsilon": 3.0})
    some = settings(
        privacy={"epsilon": 3.0},
        federation={"clients": 6, "participation": 3, "dropout": 0.2},
    )
    all_take_part, few_take_part = (fedsieve.run(one, data=own) for one in (everybody, some))
    rows = few_take_part.metrics.to_pylist()
    took_part = (~np.isnan([row["weights"] for row in rows if row["weights"]])).sum(0)
    assert 1 < took_part.max() < 6
    assert 2.97 < few_take_part.summary["epsilon"] <= 3.0
    # who takes part less often needs less noise, but no rounds are amplified: the cohort is public
    figures = [r.summary["noise_multiplier"] for r in (few_take_part, all_take_part)]
    assert figures[0] < figures[1]
    rounds = settings(rounds=int(took_part.max()), privacy={"noise_multiplier": figures[0]})
    assert fedsieve.run(rounds, data=own).summary["epsilon"] == few_take_part.summary["epsilon"]


def test_clients_with_fewer_records_spend_more(own: Dataset) -> None:
    parts = [np.arange(0, 20), np.arange(20, 100), np.arange(100, 180)]
    one = settings(federation={"clients": 3}, privacy=PRIVATE)
    uneven = fedsieve.run(one, data=own, parts=parts).summary["epsilon"]
    even = fedsieve.run(one, data=own).summary["epsilon"]
    assert uneven > 1.5 * even


# ----------------------------------------------------------------------------------------- refusals


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


@pytest.mark.parametrize(
    ("objects", "part"),
    [
        ({"rule": CAF(3)}, r"CAF\(f=3\) does not allow f=3 with n=6; largest legal f is 2"),
        ({"parts": []}, "hold no record"),
        ({"parts": [[0, 1], []]}, r"clients \[1\] of 2 hold no record"),
        ({"parts": [[0, 1], [2, 180]]}, r"positions 0\.\.180 must lie in 0\.\.179"),
        ({"parts": [[0, 1], [1, 2]]}, "record 1 is dealt 2 times"),
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


@pytest.mark.usefixtures("undrawn")
def test_no_run_is_written_over(own: Dataset, tmp_path: Path) -> None:
    fedsieve.run(settings(), tmp_path, data=own)
    with pytest.raises(ConfigError, match="holds a finished run"):
        fedsieve.run(settings(), tmp_path, data=own)
    (tmp_path / "summary.json").unlink()
    with pytest.raises(ConfigError, match="not finished; continue it with 'fedsieve resume"):
        fedsieve.run(settings(), tmp_path, data=own)
    with pytest.raises(ConfigError, match="holds no run"):
        fedsieve.resume(tmp_path / "checkpoints")


# --------------------------------------------------------------------------- what is told meanwhile

TERMS = "(delta 1e-05, record, add-remove, Poisson sampling, PLD)"


@pytest.fixture
def told(
    own: Dataset, capsys: pytest.CaptureFixture[str]
) -> Callable[[Any], tuple[list[str], list[str]]]:
    """The lines on standard output and standard error of a private run in a style."""

    def run(style: Any) -> tuple[list[str], list[str]]:
        fedsieve.run(settings(privacy=PRIVATE), data=own, progress=style)
        out, err = capsys.readouterr()
        return out.splitlines(), err.splitlines()

    return run


@pytest.mark.parametrize("style", ["plain", "auto"])
def test_plain_lines(told: Callable[[Any], tuple[list[str], list[str]]], style: str) -> None:
    out, err = told(style)
    assert err == []
    assert out[0].startswith("own: 180 training and 60 test examples from arrays of the caller")
    assert out[1].startswith("round 1/6  ")
    assert out[-1].startswith("round 6/6  accuracy ")
    assert out[-1].endswith(TERMS)
    assert re.search(r"  epsilon [\d.]+ \(", out[-1])
    assert " kB up" in out[-1]
    assert len(out) == 3
    assert "\x1b" not in "".join(out)


def test_json_lines_on_standard_error(
    told: Callable[[Any], tuple[list[str], list[str]]],
) -> None:
    out, err = told("json")
    assert out == []
    rounds = [json.loads(line) for line in err]
    assert [one["round"] for one in rounds] == [1, 3, 5]
    terms = {
        "delta": 1e-5,
        "privacy_unit": "record",
        "neighbouring_relation": "add-remove",
        "sampling": "Poisson",
        "accountant": "PLD (connect the dots, pessimistic)",
    }
    for one in rounds:
        assert set(one) == {"round", "accuracy", "loss", "epsilon", "bits_up", *terms}
        assert one | terms == one


def test_quiet_is_silent(told: Callable[[Any], tuple[list[str], list[str]]]) -> None:
    assert told("quiet") == ([], [])


def test_on_a_terminal_the_sentence_is_told_once_and_the_bar_leaves_nothing_behind(
    told: Callable[[Any], tuple[list[str], list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    out, err = told("auto")
    text = "\n".join(out)
    assert text.count("180 training and 60 test examples") == 1
    assert err == []
    assert "6/6" in text
    drawn = [line for line in re.split(r"[\n\r]|\x1b\[[\d;?]*[A-Za-z]", text) if "epsilon" in line]
    assert drawn
    assert all(TERMS in line and len(line) <= 80 for line in drawn)


def test_rounds_that_were_skipped_are_told(own: Dataset, capsys: pytest.CaptureFixture[str]):
    result = fedsieve.run(
        settings(
            federation={"clients": 6, "byzantine": 1, "dropout": 0.7},
            aggregation={"rule": "trimmed-mean"},
            rounds=20,
        ),
        data=own,
    )
    skipped = sum(result.metrics.column("skipped").to_pylist())
    assert 0 < skipped < 20
    assert f"{skipped} of 20 rounds left the model as it was" in capsys.readouterr().err


def test_divergence_is_told(capsys: pytest.CaptureFixture[str]):
    hasty = {"name": "dshb", "lr": 1e30, "batch": 10}
    fedsieve.run(settings(data={"name": "diabetes"}, algorithm=hasty))
    assert "training diverged" in capsys.readouterr().err


def test_files_of_others_are_not_written_over(own: Dataset, tmp_path: Path):
    (tmp_path / "config.toml").write_text("title = 'mine'")
    with pytest.raises(ConfigError, match=r"holds config\.toml, which no run"):
        fedsieve.run(settings(), tmp_path, data=own)
    assert (tmp_path / "config.toml").read_text() == "title = 'mine'"


def test_a_damaged_newest_checkpoint_is_told(own, tmp_path, capsys):
    fedsieve.run(settings(), tmp_path, data=own)
    (tmp_path / "summary.json").unlink()
    state = sorted((tmp_path / "checkpoints").iterdir())[-1] / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-1] + b"?")
    capsys.readouterr()
    fedsieve.resume(tmp_path, data=own)
    assert "is damaged; going on from round 3" in capsys.readouterr().err


@pytest.mark.usefixtures("undrawn")
def test_weights_by_size_are_explained(own: Dataset, tmp_path: Path):
    plain = settings(algorithm={"name": "fedavg", "lr": 0.1}, rounds=2)
    fedsieve.run(plain, tmp_path / "plain", data=own)
    fedsieve.run(plain | {"privacy": PRIVATE}, tmp_path / "private", data=own)
    told = [[r.what for r in released(RunDirectory(tmp_path / d))] for d in ("plain", "private")]
    assert ["numbers of records n_i" in " ".join(what) for what in told] == [True, False]
