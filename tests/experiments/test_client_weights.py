"""Weights by size in a configuration: when they hold, how far, and what is said of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fedsieve
from fedsieve.aggregation import Facts, TrimmedMean, capped_shares
from fedsieve.experiments import run as running
from fedsieve.experiments.build import Objects, build
from fedsieve.experiments.released import released
from fedsieve.experiments.run_directory import RunDirectory
from fedsieve.experiments.toml import ConfigError, parse


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take longer than everything else together."""
    monkeypatch.setattr(running, "report", lambda _: None)


def settings(algorithm: str = "dshb", byzantine: int = 0, **aggregation: Any) -> dict[str, Any]:
    return {
        "rounds": 2,
        "data": {"name": "digits", "sizes": "dirichlet", "size_alpha": 0.5},
        "model": {"name": "softmax"},
        "federation": {"clients": 8, "byzantine": byzantine},
        "algorithm": {"name": algorithm},
        "aggregation": aggregation,
    }


PRIVATE = {"noise_multiplier": 1.0, "noise_seed": 3}
SIZES = {"weights": "sizes"}


class Deaf(TrimmedMean):
    """A user's rule that has no place for client weights."""

    lacks = Facts.WEIGHTED


@pytest.mark.parametrize(
    ("given", "weights", "cap"),
    [
        (settings("fedavg"), "sizes", 8.0),
        (settings("fedavg", weight_cap=3.0), "sizes", 3.0),
        (settings("fedavg", weights="equal"), "equal", None),
        (settings("fedavg", rule="median"), "equal", None),
        (settings("fedavg", pre=["nnm"]), "equal", None),
        (settings("fedavg") | {"privacy": PRIVATE}, "equal", None),
        (settings("dshb"), "equal", None),
        (settings("dshb", 1, rule="median", **SIZES), "sizes", 2.0),
        (settings("dshb", **SIZES) | {"privacy": PRIVATE}, "sizes", 2.0),
    ],
)
def test_what_is_left_open_is_filled_in(
    given: dict[str, Any], weights: str, cap: float | None
) -> None:
    built = build(parse(given))
    assert (built.config.aggregation.weights, built.config.aggregation.weight_cap) == (weights, cap)
    job, sizes = built.job, [len(part) for part in built.job.shards.parts]
    told = job.weights_of(range(8))
    if weights == "equal":
        assert told is None
    else:
        assert told is not None
        assert torch.equal(told, capped_shares(sizes, cap or 8.0))
    if cap == 8.0:  # FedAvg's n_k / n
        np.testing.assert_allclose(told, np.array(sizes) / sum(sizes))


def test_the_cap_holds_among_the_messages_of_a_round() -> None:
    job = build(parse(settings("dshb", 1, rule="median", **SIZES))).job
    sizes = np.array([len(part) for part in job.shards.parts])
    few = np.argsort(sizes)[-4:].tolist()
    told = job.weights_of(few)
    assert told is not None
    assert told.max() <= 2 / 4
    assert torch.equal(told, capped_shares(sizes[few], 2.0))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (settings("peer-to-peer", **SIZES), "'peer-to-peer': no server weighs the nodes"),
        (
            settings(**SIZES) | {"privacy": PRIVATE | {"trust": "central"}},
            "trust='central': the server's noise is made for a share of 1/n",
        ),
        (
            settings(**SIZES) | {"privacy": PRIVATE | {"trust": "distributed"}},
            "trust='distributed': shared noise cancels where all weigh the same",
        ),
        (
            settings("dshb", 1, rule="bulyan", weight_cap=2.0, **SIZES),
            r"weight_cap=2 with f=1 of 8 .* claim 0\.25 .*weight_cap < 2",
        ),
        (settings("dshb", 3, rule="median", weight_cap=1.4, **SIZES), r"weight_cap < 1\.33333"),
    ],
)
def test_what_does_not_fit_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(given)


def test_a_cap_is_refused_where_it_does_nothing_or_too_little() -> None:
    with pytest.raises(ValueError, match="weight_cap=3: all clients weigh the same"):
        build(parse(settings("dshb", weight_cap=3.0)))
    with pytest.raises(ValueError, match=r"weight_cap=2 with f=2 of 8 .* claim 0\.5 .* < 2"):
        build(parse(settings("dshb", 2, rule="median", **SIZES)))


def test_a_rule_given_as_an_object_is_asked_too() -> None:
    config = parse(settings("dshb", **SIZES))
    assert build(config, Objects(rule=TrimmedMean(1))).job.client_weights is not None
    with pytest.raises(ValueError, match=r"Deaf\(f=1\) has no weighted variant"):
        build(config, Objects(rule=Deaf(1)))


def test_the_rule_weighs_by_size_and_the_run_says_so(tmp_path: Path) -> None:
    result = fedsieve.run(settings("dshb", rule="mean", weight_cap=1.5, **SIZES), tmp_path / "a")
    assert result.directory is not None
    weights = np.array(RunDirectory(tmp_path / "a").metrics().column("weights").to_pylist())
    assert weights.max() == pytest.approx(1.5 / 8)
    fedsieve.run(settings("dshb", **SIZES) | {"privacy": PRIVATE}, tmp_path / "b")
    told = [
        [
            (one.what, one.kind)
            for one in released(RunDirectory(tmp_path / name))
            if "n_i" in one.what
        ]
        for name in "ab"
    ]
    what = "the numbers of records n_i of the clients, as their weights in the rule, none above the"
    assert told[0][0] == (f"{what} public cap of 1.5 / n", "unprotected")
    assert (f"{what} public cap of 2 / n", "unprotected") in told[1]
    assert ("nominal sizes N of the clients (n_i), through q = batch / N", "unprotected") in told[1]


@pytest.mark.parametrize(
    ("privacy", "why"),
    [
        ({"relation": "add-remove"}, "one record more or less changes a size"),
        ({"relation": "replace-one"}, r"neighbours \(replace-one\) share the sizes"),
        ({"unit": "client", "relation": "add-remove"}, "part of what it holds"),
    ],
)
def test_sizes_are_flagged_wherever_they_are_told(
    tmp_path: Path, privacy: dict[str, str], why: str
) -> None:
    fedsieve.run(settings("fedavg", **SIZES) | {"privacy": PRIVATE | privacy}, tmp_path / "a")
    sizes = [one for one in released(RunDirectory(tmp_path / "a")) if "n_i" in one.what]
    sizes = [one for one in sizes if "partition.json" not in one.what]
    assert len(sizes) == (1 if privacy.get("unit") == "client" else 2)
    for one in sizes:
        assert one.flagged
        assert re.search(why, one.cost)
        assert "no epsilon covers them" in one.cost
