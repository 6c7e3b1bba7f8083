"""Root records in a configuration: who holds them, what they do, and what is said of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fedsieve
from fedsieve.aggregation import FLTrust, Mean
from fedsieve.experiments import readable, statement
from fedsieve.experiments import run as running
from fedsieve.experiments.arena.cell import DONE, play
from fedsieve.experiments.arena.plan import Cell, Plan, Setup
from fedsieve.experiments.build import Objects, build
from fedsieve.experiments.pieces import dataset
from fedsieve.experiments.released import released
from fedsieve.experiments.run_directory import RunDirectory
from fedsieve.experiments.toml import ConfigError, parse
from fedsieve.simulation.loop import Simulation


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take longer than everything else together."""
    monkeypatch.setattr(running, "report", lambda _: None)


def settings(rule: str | None = "fltrust", root: int = 100, **changes: Any) -> dict[str, Any]:
    return {
        "rounds": 4,
        "data": {"name": "digits"},
        "model": {"name": "softmax"},
        "federation": {"clients": 8, "byzantine": 1},
        "algorithm": {"name": "dshb"},
        "checkpoint": {"every": 2},
        "aggregation": {"root_records": root} | ({} if rule is None else {"rule": rule}),
        **changes,
    }


@pytest.mark.parametrize("partition", ["iid", "dirichlet", "shards"])
def test_no_client_holds_a_root_record_and_every_class_is_among_them(partition: str) -> None:
    data = {"name": "digits", "partition": partition}
    job = build(parse(settings(data=data))).job
    assert job.reference is not None
    root = job.reference.shards.parts[-1]
    held = np.concatenate(job.shards.parts)
    assert len(root) == 100
    assert sorted([*held, *root]) == list(range(len(job.shards.dataset.y)))
    counts = np.bincount(job.shards.dataset.y.numpy()[root], minlength=10)
    assert counts.min() >= 9
    assert counts.max() <= 11
    again = build(parse(settings(data=data, rounds=5))).job
    assert again.reference is not None
    assert np.array_equal(again.reference.shards.parts[-1], root)


def test_without_root_records_the_division_is_what_it_was() -> None:
    kinds = (("mean", 0), ("fltrust", 100))
    both = [build(parse(settings(*kind))).job.shards.parts for kind in kinds]
    assert [sum(map(len, parts)) for parts in both] == [1438, 1338]
    assert np.array_equal(np.sort(np.concatenate(both[0])), np.arange(1438))


def test_the_callers_own_division_leaves_them_their_records() -> None:
    config = parse(settings(root=37))
    total = len(dataset(config).y)
    parts = np.array_split(np.arange(37, total), 8)
    job = build(config, Objects(parts=parts)).job
    assert job.reference is not None
    assert job.reference.shards.parts[-1].tolist() == list(range(37))
    with pytest.raises(ValueError, match=r"root_records=38 .* hold the rest; allowed are 0\.\.37"):
        build(parse(settings(root=38)), Objects(parts=parts))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"root": 0}, r"rule='fltrust' compares .* needed is aggregation\.root_records >= 1"),
        ({"algorithm": {"name": "scaffold"}}, "'scaffold': it needs a server and messages of one"),
        (
            {"rule": "mean"},
            "root_records=100 with aggregation.rule='mean': it looks at no",
        ),
        ({"rule": None, "algorithm": {"name": "peer-to-peer"}}, "no server is there to hold"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(settings(**changes))


def test_the_clients_keep_a_record_each() -> None:
    with pytest.raises(ValueError, match=r"root_records=1431 .*; allowed are 0\.\.1430"):
        build(parse(settings(root=1431)))


def test_a_rule_given_as_an_object_needs_them_too_unless_it_has_an_update() -> None:
    with pytest.raises(ValueError, match=r"FLTrust\(f=1\) compares messages"):
        build(parse(settings(None, 0)), Objects(rule=FLTrust(1)))
    with pytest.raises(ValueError, match=r"root_records=100: Mean\(f=1\) looks at no records"):
        build(parse(settings(None, 100)), Objects(rule=Mean(1)))
    fixed = FLTrust(1, root=torch.ones(650))
    assert build(parse(settings(None, 0)), Objects(rule=fixed)).job.reference is None


@pytest.mark.parametrize("attack", ["sign-flip", "label-flip"])
@pytest.mark.parametrize("algorithm", ["dshb", "fedavg"])
def test_it_withstands_a_majority_that_takes_the_mean(attack: str, algorithm: str) -> None:
    found = {}
    for rule in ("mean", "fltrust"):
        changes: dict[str, Any] = {
            "rounds": 15,
            "data": {"name": "fashion-mnist-subset"},
            "federation": {"clients": 10, "byzantine": 6},
            "attack": {"name": attack},
            "algorithm": {"name": algorithm},
            "evaluation": {"every": 15},
        }
        root = 100 if rule == "fltrust" else 0
        found[rule] = fedsieve.run(settings(rule, root, **changes)).summary["test_accuracy"]
    assert found["mean"] < 0.3
    assert found["fltrust"] > 0.6


PRIVATE = {"noise_multiplier": 1.0, "noise_seed": 3}


@pytest.mark.parametrize("algorithm", ["dshb", "fedavg"])
@pytest.mark.parametrize(
    "privacy",
    [None, PRIVATE, PRIVATE | {"unit": "client"}, PRIVATE | {"clip_quantile": 0.5}],
    ids=["bare", "record", "client", "moving"],
)
def test_a_resumed_run_gives_the_same_bits(
    algorithm: str,
    privacy: dict[str, Any] | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if algorithm == "fedavg" and privacy is not None and "clip_quantile" in privacy:
        pytest.skip("its clip does not move")
    given = settings(algorithm={"name": algorithm}, **({"privacy": privacy} if privacy else {}))
    whole = fedsieve.run(given, tmp_path / "whole")
    with monkeypatch.context() as dying:
        step, seen = Simulation.step, []

        def die(simulation: Simulation) -> dict[str, Any]:
            if len(seen) == 3:
                raise KeyboardInterrupt
            seen.append(simulation.round)
            return step(simulation)

        dying.setattr(Simulation, "step", die)
        with pytest.raises(KeyboardInterrupt):
            fedsieve.run(given, tmp_path / "part")
    resumed = fedsieve.resume(tmp_path / "part")
    assert torch.equal(resumed.theta, whole.theta)


def test_an_arena_plays_it_beside_the_others() -> None:
    given = settings(None, federation={"clients": 8})
    del given["checkpoint"]
    given["arena"] = {"rules": ["fltrust", "trimmed-mean"]}
    plan = Plan(Setup.model_validate(given))
    data = dataset(plan.setup)
    for rule in ("fltrust", "trimmed-mean"):
        score = play(plan.config(Cell(rule, "sign-flip", 1, 0)), data)
        assert score.state == DONE, score.reason
        assert score.summary is not None
        assert score.summary.get("root_records") == (100 if rule == "fltrust" else None)


def test_the_run_says_that_they_are_public(tmp_path: Path) -> None:
    result = fedsieve.run(settings(privacy=PRIVATE), tmp_path / "run")
    assert result.summary["root_records"] == 100
    run = RunDirectory(tmp_path / "run")
    (told,) = [one for one in released(run) if "root records" in one.what]
    assert (told.kind, told.sees) == ("public", "server")
    assert "No epsilon covers them" in told.cost
    said = " ".join(statement.privacy(result.summary, {}))
    assert "does not protect the server's own 100 root records" in said
    assert ("root records", "100 at the server, public") in readable.rows(result.summary)
    bare = fedsieve.run(settings("mean", 0), tmp_path / "bare")
    assert "root_records" not in bare.summary
    assert not any("root" in one.what for one in released(RunDirectory(tmp_path / "bare")))


def test_worker_processes_change_no_bit() -> None:
    given = settings(algorithm={"name": "fedavg"}, federation={"clients": 4, "byzantine": 1})
    one, two = (fedsieve.run(given | {"workers": workers}) for workers in (1, 2))
    assert torch.equal(one.theta, two.theta)
