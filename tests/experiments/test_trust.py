"""Unit and trust by configuration: what is refused, what runs, what is stated, what survives."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fedsieve
from fedsieve.aggregation import CAF, Mean
from fedsieve.aggregation._door import FloatArray
from fedsieve.algorithms.trust import EVERYTHING, WHOLE_UPDATES
from fedsieve.experiments import run as running
from fedsieve.experiments import statement
from fedsieve.experiments.released import released
from fedsieve.experiments.run_directory import RunDirectory
from fedsieve.experiments.toml import ConfigError, load
from fedsieve.privacy import noise_multiplier
from fedsieve.registry import component
from fedsieve.simulation.loop import Simulation

AGAINST = {
    "local": "everybody who sees the messages, the server included",
    "distributed": "the server and up to 1 colluding clients",
    "central": "everybody but the server, which sees the clients' clipped vectors",
}
COMBINATIONS = [
    (name, unit, trust)
    for name, offers in (("dshb", EVERYTHING), ("sieve", EVERYTHING), ("fedavg", WHOLE_UPDATES))
    for unit, trust in sorted(offers)
]


def settings(name: str, unit: str, trust: str, **changes: Any) -> dict[str, Any]:
    privacy = {"epsilon": 3.0, "unit": unit, "trust": trust, "noise_seed": 1}
    return {
        "data": {"name": "digits"},
        "rounds": 2,
        "model": {"name": "softmax"},
        "federation": {"clients": 8, "byzantine": 1},
        "attack": {"name": "alie", "strength": 1.5},
        "algorithm": {"name": name},
        "checkpoint": {"every": 0},
        **changes,
        "privacy": privacy | changes.get("privacy", {}),
    }


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take longer than everything else together."""
    monkeypatch.setattr(running, "report", lambda _: None)


# --------------------------------------------------------------------------------------- runs


@pytest.mark.parametrize(("name", "unit", "trust"), COMBINATIONS)
def test_every_combination_runs_within_its_epsilon_and_says_what_holds(
    name: str, unit: str, trust: str
) -> None:
    result = fedsieve.run(settings(name, unit, trust))
    summary = result.summary
    assert (summary["rounds"], summary["privacy_unit"]) == (2, unit)
    assert summary.get("trust", "local") == trust
    assert summary.get("holds_against", AGAINST["local"]) == AGAINST[trust]
    assert 2.9 < summary["epsilon"] <= 3.0
    assert summary["rule"] == ("mean" if trust == "central" or name == "fedavg" else "caf")
    steps = 2 * (5 if (name, unit) == ("fedavg", "record") else 1)
    batch = result.config.algorithm.batch
    assert batch is not None
    smallest = 1437 // 8  # digits has 1437 training records
    q = batch / smallest if unit == "record" else 1.0
    sigma = noise_multiplier(3.0, q, steps, 1e-5)
    assert summary["noise_multiplier"] == pytest.approx(sigma, rel=1e-3)
    told = " ".join(statement.privacy(summary, result.config.model_dump()))
    assert AGAINST[trust] in told
    assert AGAINST[trust] in statement.privacy_line(summary)
    assert ("Poisson" in told) == (unit == "record")
    assert ("Poisson" in statement.privacy_line(summary)) == (unit == "record")
    assert f"one {unit} added or removed" in told


def test_at_client_level_replacing_costs_what_twice_the_sensitivity_does() -> None:
    one, two = (
        fedsieve.run(settings("fedavg", "client", "local", privacy={"relation": relation})).summary
        for relation in ("add-remove", "replace-one")
    )
    assert two["noise_multiplier"] == pytest.approx(2 * one["noise_multiplier"], rel=1e-3)
    assert two["neighbouring_relation"] == "replace-one"


def test_each_client_counts_its_participations_and_sampling_by_the_server_is_not_counted() -> None:
    part = {"clients": 8, "participation": 4}
    result = fedsieve.run(
        settings("dshb", "client", "local", rounds=8, federation=part, attack={"name": "none"})
    )
    attendance = result.metrics.column("weights").to_pylist()
    most = max(sum(not math.isnan(row[c]) for row in attendance) for c in range(8))
    assert most < 8
    sigma = noise_multiplier(3.0, 1.0, most, 1e-5)
    assert result.summary["noise_multiplier"] == pytest.approx(sigma, rel=1e-3)


# ------------------------------------------------------------------------------------- resume


@pytest.mark.parametrize("unit", ["record", "client"])
@pytest.mark.parametrize("trust", ["distributed", "central"])
def test_a_run_that_is_interrupted_ends_as_if_nothing_had_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: str, trust: str
) -> None:
    given = settings(
        "sieve",
        unit,
        trust,
        rounds=6,
        checkpoint={"every": 2},
        federation={"clients": 8, "byzantine": 1, "participation": 6, "dropout": 0.1},
        projection={"name": "low-rank", "refresh": 2},
        aggregation={"f": 1},
    )
    fedsieve.run(given, tmp_path / "whole")
    exchange, calls = Simulation._exchange, []

    def dying(self: Simulation, *args: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise OSError("the power is gone")
        return exchange(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Simulation, "_exchange", dying)
        with pytest.raises(OSError, match="power"):
            fedsieve.run(given, tmp_path / "torn")
    fedsieve.resume(tmp_path / "torn")
    torn, whole = (tmp_path / name for name in ("torn", "whole"))
    for file in ("model.safetensors", "ledger.jsonl"):
        assert (torn / file).read_bytes() == (whole / file).read_bytes()
    ours, theirs = (json.loads((path / "summary.json").read_text()) for path in (torn, whole))
    same = ("epsilon", "test_loss", "privacy_unit", "trust", "holds_against", "noise_multiplier")
    assert [ours[key] for key in same] == [theirs[key] for key in same]


# ------------------------------------------------------------------------------------ explain


def test_explain_tells_who_sees_what(invented: Callable[..., Path], tmp_path: Path) -> None:
    def told(trust: str, **more: Any) -> dict[str, str]:
        path = invented(tmp_path / trust, rounds=2)
        config = path / "config.toml"
        text = config.read_text()
        assert 'trust = "local"' in text
        text = text.replace('trust = "local"', f'trust = "{trust}"')
        for key, value in more.items():
            text = text.replace(f"{key} = 0.0", f"{key} = {value}")
        config.write_text(text)
        return {one.what: one.kind for one in released(RunDirectory.open(path))}

    messages = "messages of the clients, one per round"
    aggregates = "aggregates, global models, weights of the rule, projections learned from them"
    local = told("local")
    assert (local[messages], local[aggregates]) == ("paid for", "free")
    central = told("central")
    assert (central[messages], central[aggregates]) == ("unprotected", "paid for")
    distributed = told("distributed", dropout=0.1)
    assert distributed[messages] == "paid for"
    assert distributed["noise shared with clients that dropped out"] == "public"


# ------------------------------------------------------------------------------------ refusals


def refusal(*words: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(None, words)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_robust_rule_is_refused_with_noise_of_the_server() -> None:
    central = "privacy.trust=central"
    told = refusal(central, "aggregation.rule=caf")
    assert "aggregation.rule='caf'" in told
    assert "not known to be linear" in told
    assert "allowed is aggregation.rule='mean' alone" in told
    assert "aggregation.pre=['nnm']" in refusal(
        central, "aggregation.rule=mean", 'aggregation.pre=["nnm"]', "federation.byzantine=4"
    )
    with pytest.raises(ConfigError, match=r"rule=CAF\(f=1\) with privacy.trust='central'"):
        fedsieve.run(settings("dshb", "record", "central"), rule=CAF(1))


class Krummed(Mean):
    """Says that it is a mean, and passes one message on."""

    def _solve(self, G: FloatArray, removed: int, share: FloatArray | None) -> FloatArray:
        return np.eye(len(G))[0]


def test_the_mean_as_an_object_is_the_mean_with_noise_of_the_server() -> None:
    given = settings("dshb", "record", "central")
    named, passed = fedsieve.run(given), fedsieve.run(given, rule=Mean())
    assert torch.equal(named.theta, passed.theta)
    assert passed.summary["epsilon"] == named.summary["epsilon"]
    with pytest.raises(ConfigError, match=r"rule=Krummed\(f=0\) .* not known to be linear"):
        fedsieve.run(given, rule=Krummed())


def test_codes_with_loss_are_refused_where_the_noise_comes_after_them() -> None:
    lossy = "raw16"
    assert not component("codec", lossy).build().lossless
    words = ("privacy.trust=central", f"codec.name={lossy}")
    assert f"codec.name='{lossy}' with privacy.trust='central'" in refusal(*words)
    assert load(None, [*words, "privacy.unit=client"]).codec.name == lossy


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("algorithm.name=scaffold", "privacy.unit=client"), "'scaffold' offers record (trust"),
        (("algorithm.name=fedavg", "privacy.trust=central"), "privacy.unit='record' with privacy."),
        (("algorithm.name=peer-to-peer", "privacy.trust=distributed"), "'peer-to-peer' offers"),
        (("privacy.colluders=3",), "privacy.colluders=3 with privacy.trust='local'"),
        (
            ("privacy.trust=distributed", "privacy.colluders=3"),
            "privacy.colluders=3 is less than federation.byzantine=4",
        ),
        (
            ("privacy.trust=distributed", "privacy.colluders=19"),
            "privacy.colluders=19 with privacy.trust='distributed' and cohorts of 20",
        ),
        (("privacy.unit=user",), "privacy.unit"),
        (("privacy.trust=everybody",), "privacy.trust"),
    ],
)
def test_impossible_combinations_are_refused(words: tuple[str, ...], told: str) -> None:
    assert told in refusal(*words)


def test_rounds_with_too_few_clients_to_share_noise_are_refused_before_the_first() -> None:
    few = {"clients": 8, "byzantine": 1, "participation": 4, "dropout": 0.6}
    with pytest.raises(ConfigError, match=r"in round \d+ only \d clients deliver, and 3 must"):
        fedsieve.run(settings("dshb", "record", "distributed", federation=few, rounds=30))
