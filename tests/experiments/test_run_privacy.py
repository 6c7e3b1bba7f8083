"""The figures of privacy that a run ends with, and the noise that is made for a target."""

from __future__ import annotations

import numpy as np
import pytest

import fedsieve
from fedsieve.learning.data import Dataset
from fedsieve.privacy import epsilon
from tests.experiments.small_runs import PRIVATE, settings


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
