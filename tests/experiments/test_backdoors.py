"""Backdoors from the configuration to the summary, on real images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

import fedsieve
from fedsieve.experiments import readable, toml
from fedsieve.experiments.build import build
from fedsieve.experiments.sections.attack import Attack
from fedsieve.experiments.summary import Summary
from fedsieve.experiments.toml import ConfigError, load, parse
from fedsieve.learning.data import Shards
from fedsieve.learning.datasets.own import from_arrays
from fedsieve.poisoning import ConstrainAndScale, EdgeCase, ModelReplacement, Patch, Position
from fedsieve.simulation.checkpoint import newest, save
from fedsieve.simulation.loop import Simulation

NAMES = ["badnets", "dba", "edge-case", "model-replacement", "constrain-and-scale", "neurotoxin"]


def settings(attack: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """Ten clients on the embedded images, two of them malicious, and no defence."""
    return {
        "rounds": 20,
        "data": {"name": "fashion-mnist"},
        "federation": {"clients": 10, "byzantine": 2},
        "model": {"name": "mlp", "hidden": [32]},
        "algorithm": {"name": "fedavg", "lr": 0.05},
        "aggregation": {"rule": "mean"},
        "attack": attack or {"name": "none"},
        **changes,
    }


def small(attack: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """The same on handwritten digits, in a tenth of the time."""
    return settings(attack, data={"name": "digits"}, model={"name": "softmax"}, **changes)


@pytest.fixture(scope="module")
def clean() -> fedsieve.Result:
    return fedsieve.run(settings())


@pytest.fixture(scope="module")
def stopped() -> fedsieve.Result:
    """BadNets for 20 rounds, and 30 rounds without."""
    return fedsieve.run(settings({"name": "badnets", "stop": 20}, rounds=50))


def column(result: fedsieve.Result, name: str) -> dict[int, float]:
    """Round -> figure, where there is one."""
    table = result.metrics
    pairs = zip(table["round"].to_pylist(), table[name].to_pylist(), strict=True)
    return {t: value for t, value in pairs if value is not None}


def test_badnets_succeeds_and_keeps_the_accuracy(
    clean: fedsieve.Result, stopped: fedsieve.Result
) -> None:
    rates, accuracies = column(stopped, "attack_success_rate"), column(stopped, "accuracy")
    assert list(rates) == list(accuracies) == list(range(4, 50, 5))
    assert rates[19] > 0.8  # measured 0.95
    assert accuracies[19] > clean.summary["test_accuracy"] - 0.03
    assert not {"attack_success_rate", "backdoor_half_life"} & clean.summary.keys()
    assert not column(clean, "attack_success_rate")


def test_a_backdoor_fades_when_the_attack_stops(stopped: fedsieve.Result) -> None:
    rates = column(stopped, "attack_success_rate")
    first = next(t for t in rates if t >= 20 and rates[t] <= rates[19] / 2)
    assert stopped.summary["backdoor_half_life"] == first - 19
    assert stopped.summary["attack_success_rate"] == rates[49] < 0.6 * rates[19]
    shown = dict(readable.rows(stopped.summary))
    assert shown["attack success rate"] == f"{rates[49]:.1%}"
    assert shown["backdoor half-life"] == f"{first - 19} rounds"


def test_a_robust_rule_keeps_a_replaced_model_out() -> None:
    attack, robust = {"name": "model-replacement"}, {"rule": "caf", "pre": ["nnm"]}
    replaced = fedsieve.run(settings(attack)).summary
    defended = fedsieve.run(settings(attack, aggregation=robust)).summary
    assert replaced["attack_success_rate"] > 0.9  # measured 1.00
    assert defended["attack_success_rate"] < 0.2  # measured 0.02
    assert defended["test_accuracy"] > replaced["test_accuracy"] - 0.03


def test_nothing_is_said_of_a_backdoor_where_there_is_none(
    a_summary: Callable[..., Summary],
) -> None:
    assert not any("backdoor" in name for name, _ in readable.rows(a_summary().as_dict()))


def test_the_share_of_triggered_records_that_are_taken_for_the_target() -> None:
    config = parse(small({"name": "badnets", "target": 3, "size": 2, "position": "top-left"}))
    job, dataset = (built := build(config)).job, built.dataset
    theta = torch.randn(650, generator=torch.Generator().manual_seed(1))
    weights, bias = theta[:640].view(10, 64), theta[640:]
    margins = []
    for image, label in zip(dataset.x_test, dataset.y_test, strict=True):
        if label != 3:
            triggered = image.clone()
            triggered[0, :2, :2] = 16  # the brightest value of the digits
            scores = weights @ dataset.normalise(triggered[None]).flatten() + bias
            rivals = [float(score) for c, score in enumerate(scores) if c != 3]
            margins.append(float(scores[3]) - max(rivals))
    bias[3] -= np.quantile(margins, 0.6)  # a view of theta: two fifths are taken for class 3
    assert job.attack_success is not None
    expected = np.mean(np.array(margins) > np.quantile(margins, 0.6))
    assert expected == pytest.approx(0.4, abs=0.01)
    assert job.attack_success(theta) == pytest.approx(expected, abs=2 / len(margins))


def test_malicious_clients_behave_outside_the_attacked_rounds() -> None:
    honest = fedsieve.run(small(evaluation={"every": 1}))
    for name in ("badnets", "model-replacement", "label-flip", "alie"):
        attack = {"name": name, "start": 6, "stop": 9}
        attacked = fedsieve.run(small(attack, rounds=12, evaluation={"every": 1}))
        losses, true = column(attacked, "loss"), column(honest, "loss")
        assert [losses[t] for t in range(6)] == [true[t] for t in range(6)]
        assert losses[6] != true[6]


@pytest.mark.parametrize("name", NAMES)
def test_every_backdoor_does_something_on_digits(name: str) -> None:
    result = fedsieve.run(small({"name": name, "target": 1}, rounds=30))
    honest = fedsieve.run(small({"name": name, "target": 1, "start": 29}, rounds=30))
    before = column(honest, "attack_success_rate")[24]
    assert column(result, "attack_success_rate")[24] > before + 0.05
    assert result.summary["test_accuracy"] > 0.5


@pytest.mark.parametrize("algorithm", ["fedavg", "dshb", "scaffold", "peer-to-peer"])
def test_a_run_that_is_restored_ends_in_the_same_bits(algorithm: str, tmp_path: Path) -> None:
    attack = {"name": "neurotoxin", "start": 2, "stop": 6, "mask_ratio": 0.5}
    config = parse(small(attack, rounds=8, algorithm={"name": algorithm, "lr": 0.05}))
    whole, first, second = (Simulation(build(config).job) for _ in range(3))
    for _ in range(8):
        row = whole.step()
    for _ in range(4):
        first.step()
    save(tmp_path, first.checkpoint())
    held = newest(tmp_path)
    assert held is not None
    second.restore(held)
    for _ in range(4):
        again = second.step()
    assert torch.equal(whole.theta, second.theta)
    assert again["attack_success_rate"] == row["attack_success_rate"]


def test_workers_give_the_same_bits() -> None:
    attack = {"name": "neurotoxin", "start": 1, "stop": 3}
    serial = fedsieve.run(small(attack, rounds=4))
    parallel = fedsieve.run(small(attack, rounds=4, workers=2))
    assert torch.equal(serial.theta, parallel.theta)


def test_the_settings_reach_the_attack(tmp_path: Path) -> None:
    def attack(**given: Any) -> Any:
        algorithm = {"name": "fedavg", "server_lr": 0.5}
        return build(parse(small(given, algorithm=algorithm))).job.attack

    made = attack(name="model-replacement", backdoor="dba", size=2, position="center", target=4)
    assert isinstance(made, ModelReplacement)
    assert made.server_lr == 0.5
    assert made.backdoor.trigger == Patch(2, "center")
    assert made.wanted == 4
    made = attack(name="constrain-and-scale", backdoor="edge-case", source=2, tail=0.5, norm=3.0)
    assert made == ConstrainAndScale(EdgeCase(source=2, tail=0.5), norm=3.0, server_lr=0.5)
    np.savez(tmp_path / "edge.npz", x=np.zeros((2, 1, 8, 8), dtype=np.uint8))
    made = attack(name="edge-case", file=tmp_path / "edge.npz", fraction=0.1)
    assert made == EdgeCase(file=str(tmp_path / "edge.npz"), fraction=0.1)


def test_the_positions_are_those_of_the_trigger() -> None:
    kinds = get_args(Attack.model_fields["position"].annotation)
    assert set(get_args(kinds[0])) == set(get_args(Position))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["attack.target=-1"], "attack.target=-1"),
        (["attack.fraction=0.0"], "attack.fraction=0.0"),
        (["attack.position=left"], "attack.position='left'"),
        (["attack.boost=2.0"], "attack.boost=2.0: attack.name='badnets' has no such setting"),
        (["attack.strength=2.0"], "attack.strength=2.0: attack.name='badnets' has no such setting"),
        (["attack.name=alie", "attack.target=1"], "attack.target=1: attack.name='alie' has no"),
        (
            ["attack.name=none", "attack.strength=0.0"],
            "attack.strength=0.0: attack.name='none'",
        ),
        (["attack.name=none", "attack.start=1"], "attack.start=1: attack.name='none' has no"),
        (
            ["attack.name=neurotoxin", "attack.source=1"],
            "attack.source=1: attack.name='neurotoxin'",
        ),
        (["attack.start=150"], r"attack.start=150 with rounds=150: .* allowed are 0\.\.149"),
        (
            ["attack.start=5", "attack.stop=5"],
            "attack.stop=5 with attack.start=5: .* allowed is >= 6",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(None, ["attack.name=badnets", *overrides])


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        ({"name": "badnets", "target": 10}, r"target=10 must be one of the classes 0\.\.9"),
        ({"name": "dba", "size": 9}, r"size=9: the trigger must fit .* allowed are 1\.\.8"),
        ({"name": "edge-case", "source": 0}, "source=0 must be another class than target"),
        ({"name": "edge-case", "file": "no.npz"}, r"file='no.npz' is no \.npz file"),
    ],
)
def test_what_the_data_do_not_allow_is_refused(attack: dict[str, Any], message: str) -> None:
    with toml.refusing(), pytest.raises(ValueError, match=message):
        build(parse(small(attack)))


def test_an_image_trigger_needs_images() -> None:
    table = settings({"name": "badnets"}, data={"name": "diabetes"}, model={"name": "softmax"})
    with pytest.raises(ConfigError, match="is a regression and has no classes to aim at"):
        fedsieve.run(table)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 5)).astype(np.float32), rng.integers(0, 2, 200)
    own = from_arrays(x[:150], y[:150], x[150:], y[150:], name="table")
    given = {key: value for key, value in table.items() if key != "data"}
    with pytest.raises(ConfigError, match="an image trigger needs image data"):
        fedsieve.run(given, data=own)


def test_records_that_stay_are_not_kept_twice() -> None:
    flipped = build(parse(small({"name": "label-flip"}))).job.shards
    assert isinstance(flipped, Shards)
    assert flipped.forged is not None
    assert flipped.forged.x is None
    patched = build(parse(small({"name": "badnets", "fraction": 0.1}))).job.shards
    held = sum(len(part) for part in patched.parts[8:])
    assert patched.forged is not None
    assert patched.forged.x is not None
    assert len(patched.forged.x) == len(patched.forged.places) == pytest.approx(0.1 * held, abs=1)
