"""Mechanisms in runs: layers clipped apart, integer noise, and a clip that follows a quantile."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

import fedsieve
from fedsieve.algorithms.parts import COUNTS
from fedsieve.experiments import statement, toml
from fedsieve.experiments.build import Objects, build
from fedsieve.experiments.released import released
from fedsieve.experiments.run_directory import RunDirectory
from fedsieve.experiments.toml import ConfigError
from fedsieve.learning._work import FEW
from fedsieve.learning.data import Dataset
from fedsieve.privacy import IntegerMechanism, epsilon
from fedsieve.privacy.accounting import RDP_INTEGER
from fedsieve.privacy.discrete.sum_lattice import SLACK
from fedsieve.privacy.guarantee import kept_variance
from fedsieve.simulation.loop import Simulation

pytestmark = pytest.mark.usefixtures("undrawn")

INTEGERS = ("discrete-gaussian", "skellam")


def settings(privacy: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "rounds": 2,
        "federation": {"clients": 6},
        "model": {"name": "mlp", "hidden": [8]},
        "algorithm": {"name": "sieve", "batch": 10, "lr": 0.5, "momentum": 0.0},
        "evaluation": {"every": 1},
        "privacy": {"noise_multiplier": 2.0, "noise_seed": 3, **privacy},
        "checkpoint": {"every": 1},
        **changes,
    }


VARIANTS = {
    "layers": settings({"clipping": "per-layer"}),
    "layers by size": settings({"clipping": "per-layer", "clip_split": "size"}),
    "discrete": settings({"noise": "discrete-gaussian"}),
    "skellam": settings({"noise": "skellam"}, codec={"name": "integers"}),
    "quantile": settings({"clip_quantile": 0.5}),
    "quantile and layers": settings({"clip_quantile": 0.3, "clipping": "per-layer"}),
    "local steps": settings(
        {"noise": "skellam"}, algorithm={"name": "fedavg", "batch": 10, "local_steps": 2}
    ),
}


def without_times(table: pa.Table) -> dict[str, list[Any]]:
    return {n: table[n].to_pylist() for n in table.column_names if not n.startswith("seconds")}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_resumed_run_goes_on_bit_for_bit(
    name: str, own: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = VARIANTS[name] | {"rounds": 4}
    whole = fedsieve.run(config, tmp_path / "whole", data=own)
    step = Simulation.step

    def failing(self: Simulation) -> dict[str, Any]:
        if self.round == 2:
            raise RuntimeError("power cut")
        return step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Simulation, "step", failing)
        with pytest.raises(RuntimeError, match="power cut"):
            fedsieve.run(config, tmp_path / "cut", data=own)
    resumed = fedsieve.resume(tmp_path / "cut", data=own)
    assert torch.equal(resumed.theta, whole.theta)
    assert without_times(resumed.metrics) == without_times(whole.metrics)
    for key in ("epsilon", "accountant", "noise_multiplier", "uplink_bits_per_client_round"):
        assert resumed.summary[key] == whole.summary[key]
    assert resumed.config == whole.config


@pytest.mark.parametrize("name", VARIANTS)
def test_epsilon_is_that_of_what_was_released(name: str, own: Dataset) -> None:
    config = VARIANTS[name]
    law = config["privacy"].get("noise", "gaussian")
    summary = fedsieve.run(config, data=own).summary
    steps = 2 * config["algorithm"].get("local_steps", 1)
    expected = epsilon(2.0, 10 / 30, steps, 1e-5, law=law, variance=kept_variance(law))
    assert summary["epsilon"] == pytest.approx(expected.epsilon, rel=1e-9)
    assert summary["accountant"] == expected.accountant
    assert summary["noise_multiplier"] == 2.0


def test_worker_processes_draw_the_same_integers(own: Dataset) -> None:
    alone = fedsieve.run(VARIANTS["local steps"], data=own)
    shared = fedsieve.run(VARIANTS["local steps"] | {"workers": 2}, data=own)
    assert torch.equal(alone.theta, shared.theta)
    assert alone.summary["epsilon"] == shared.summary["epsilon"]


# ------------------------------------------------------------------------------- layers


def test_layers_are_clipped_apart_in_a_run(own: Dataset) -> None:
    flat, layers = (
        fedsieve.run(settings({"clipping": form, "clip": 0.5}), data=own)
        for form in ("flat", "per-layer")
    )
    assert not torch.equal(flat.theta, layers.theta)
    told = [r.metrics["clipped_fraction"].to_pylist()[0] for r in (flat, layers)]
    assert 0 < told[0] <= told[1]  # a layer may be cut where the whole is not
    assert flat.summary["epsilon"] == layers.summary["epsilon"]


# ------------------------------------------------------------------------------- integers


@pytest.mark.parametrize("law", INTEGERS)
def test_messages_of_integer_noise_are_integers_on_the_wire(law: str, own: Dataset) -> None:
    config = toml.parse(settings({"noise": law}, codec={"name": "integers"}))
    built = build(config, Objects(data=own))
    mechanism = built.mechanism
    assert isinstance(mechanism, IntegerMechanism)
    assert mechanism.law == law
    with Simulation(built.job) as simulation:
        row = simulation.step()
    assert row["bits_up"] == 6 * 8 * (24 + math.ceil(built.k * mechanism.bits / 8))
    assert mechanism.bits < 32
    exact = fedsieve.run(settings({"noise": law}), data=own)  # the same as float32
    coded = fedsieve.run(config, data=own)
    assert torch.equal(exact.theta, coded.theta)
    assert exact.summary["uplink_bits_per_client_round"] == 8 * 24 + 32 * built.k
    assert coded.summary["uplink_bits_per_client_round"] == row["bits_up"] / 6


def test_integer_noise_trains_as_real_noise_does(own: Dataset) -> None:
    accuracy = {}
    for law in ("gaussian", *INTEGERS):
        config = settings({"noise": law, "noise_multiplier": 1.0}, rounds=30)
        accuracy[law] = fedsieve.run(config, data=own).summary["test_accuracy"]
    assert min(accuracy.values()) > 0.8


def test_an_attacker_sends_integers_too(own: Dataset) -> None:
    config = settings(
        {"noise": "skellam"},
        codec={"name": "integers"},
        federation={"clients": 6, "byzantine": 1},
        attack={"name": "sign-flip"},
        rounds=3,
    )
    result = fedsieve.run(config, data=own)
    assert result.theta.isfinite().all()
    assert result.metrics["senders"].to_pylist() == [6, 6, 6]


# ------------------------------------------------------------------------------- the quantile


def test_the_clip_goes_to_the_quantile_of_the_norms(own: Dataset) -> None:
    far = {"clip_quantile": 0.5, "noise_multiplier": 0.5, "clip_rate": 0.4}
    for first in (0.02, 20.0):
        config = settings(far | {"clip": first}, rounds=30, evaluation={"every": 30})
        result = fedsieve.run(config, data=own)
        clips = result.metrics["clip"].to_pylist()
        assert clips[0] == first
        clipped = result.metrics["clipped_fraction"].to_pylist()
        assert 0.25 < np.mean(clipped[-8:]) < 0.75
        assert abs(clipped[0] - 0.5) > 0.45


def test_a_fixed_clip_is_not_told(own: Dataset) -> None:
    result = fedsieve.run(settings({}), data=own)
    assert result.metrics["clip"].to_pylist() == [None, None]


def test_the_counts_travel_and_share_the_budget(own: Dataset) -> None:
    fixed, moving = (
        fedsieve.run(settings(extra), data=own) for extra in ({}, {"clip_quantile": 0.5})
    )
    for key, more in (("uplink", 32), ("downlink", 32)):
        told = f"{key}_bits_per_client_round"
        assert moving.summary[told] == fixed.summary[told] + more
    assert moving.summary["epsilon"] == fixed.summary["epsilon"]
    # the gradients' own noise is larger by (1 - 0.02)^(-1/2), from the first round on
    noise = [r.metrics["noise_norm"].to_pylist()[0] for r in (fixed, moving)]
    assert noise[1] / noise[0] == pytest.approx(0.98**-0.5, rel=1e-4)


def test_a_minority_that_lies_about_its_counts_does_not_move_the_clip_far(own: Dataset) -> None:
    federation = {"clients": 6, "byzantine": 2}
    privacy = {"clip_quantile": 0.5, "noise_multiplier": 0.5, "clip": 20.0, "clip_rate": 0.4}
    config = settings(
        privacy, federation=federation, attack={"name": "sign-flip"}, rounds=25,
        aggregation={"rule": "trimmed-mean"},
    )  # fmt: skip
    clips = fedsieve.run(config, data=own).metrics["clip"].to_pylist()
    assert clips[-1] < 5.0  # they ask for more and more; the median does not follow


# ------------------------------------------------------------------------------- what is said


def said(config: dict[str, Any], own: Dataset) -> str:
    result = fedsieve.run(config, data=own)
    nested = result.config.model_dump(exclude_none=True)
    return " ".join(statement.privacy(result.summary, nested))


def test_the_statement_names_the_mechanism(own: Dataset) -> None:
    plain = said(settings({}), own)
    assert "clipped there and summed; each client adds Gaussian noise of its own; noise" in plain
    assert "Floating point" not in plain
    layers = said(VARIANTS["layers"], own)
    assert "clipped there layer by layer, the layers' clips adding up" in layers
    integers = said(VARIANTS["skellam"], own)
    assert "each client rounds to a public lattice and adds Skellam noise of its own" in integers
    assert f"Accountant: {RDP_INTEGER}" in integers
    assert "Floating point: noise is drawn from its exact law and added to integers" in integers
    assert f"added up in float32 (up to {FEW} records of a client) or float64 (more)" in integers
    assert f"allows 2^{math.log2(SLACK):.0f} of the clip for the rounding of their sum" in integers
    moving = said(VARIANTS["quantile"], own)
    assert "the clip follows the 0.5 quantile of the norms by noisy counts" in moving


def test_noisy_counts_are_listed_among_what_was_released(own: Dataset, tmp_path: Path) -> None:
    fedsieve.run(VARIANTS["quantile"], tmp_path / "run", data=own)
    found = {one.what: one.kind for one in released(RunDirectory.open(tmp_path / "run"))}
    assert found["noisy counts of gradients within the clip, one per client and round"] == (
        "paid for"
    )
    fedsieve.run(settings({}), tmp_path / "fixed", data=own)
    assert not any("counts of grad" in r.what for r in released(RunDirectory(tmp_path / "fixed")))


def test_the_counts_have_noise_of_their_own(own: Dataset) -> None:
    built = build(toml.parse(settings({"clip_quantile": 0.5}, rounds=1)), Objects(data=own))
    gradient, streams = built.job.algorithm.parts.gradient, built.job.streams  # type: ignore[attr-defined]
    with Simulation(built.job) as simulation:
        broadcast = built.job.algorithm.broadcast(simulation.shared, 0)
        cohort = simulation._computing(built.job.participation.draw(streams, 0, 1))
        shares = gradient.once(broadcast, cohort).shares
    assert shares is not None
    used = [streams.noise(client, 0, 0, COUNTS).standard_normal() for client in cohort.ids]
    counts = (shares.double().numpy() - 0.5) * 10 - gradient.adaptive.noise_std * np.array(used)
    # half of a whole number is left: that noise, and no other, was added
    np.testing.assert_allclose(2 * counts, np.rint(2 * counts), atol=1e-4)


@pytest.mark.parametrize("trust", ["distributed", "central"])
def test_layers_are_clipped_apart_whoever_adds_the_noise(trust: str, own: Dataset) -> None:
    privacy = {"clipping": "per-layer", "trust": trust}
    text = said(settings(privacy, aggregation={"rule": "mean"}), own)
    assert "clipped there layer by layer, the layers' clips adding up" in text
    assert ("the server adds Gaussian noise" in text) == (trust == "central")


@pytest.mark.parametrize("privacy", [{"noise": "skellam"}, {"clip_quantile": 0.5}])
def test_malicious_clients_may_omit_such_noise_too(privacy: dict[str, Any], own: Dataset) -> None:
    config = settings(
        privacy,
        federation={"clients": 6, "byzantine": 1},
        attack={"name": "un-noised", "start": 1},
        rounds=3,
    )
    result = fedsieve.run(config, data=own)
    assert result.theta.isfinite().all()
    assert result.metrics["senders"].to_pylist() == [6, 6, 6]
    clips = result.metrics["clip"].to_pylist()
    assert len(set(clips)) == (3 if "clip_quantile" in privacy else 1)


# ------------------------------------------------------------------------------- refusals

OWN_NOISE = "noise that is a client's own and does not cancel"
CODEC = {"codec": {"name": "integers"}}
REFUSED = [
    (settings({"clip_split": "size"}), "privacy.clip_split='size' with privacy.clipping='flat'"),
    (settings({"clip_rate": 0.3}), "privacy.clip_rate=0.3 without privacy.clip_quantile"),
    (settings({"clip_noise": 3.0}), "privacy.clip_noise=3.0 without privacy.clip_quantile"),
    (settings({"clip_quantile": 1.0}), "privacy.clip_quantile"),
    (
        settings({"clip_quantile": 0.5, "noise": "skellam"}),
        "privacy.clip_quantile=0.5 with privacy.noise='skellam'",
    ),
    (
        settings({"clip_quantile": 0.5}, algorithm={"name": "fedavg"}),
        "privacy.clip_quantile=0.5 with algorithm.name='fedavg'",
    ),
    (
        settings({"clip_quantile": 0.5, "clip_noise": 1.0}),
        "privacy.clip_noise=1.0: the counts alone would spend the whole budget; allowed is > 1",
    ),
    (settings({}, **CODEC), "codec.name='integers' with privacy.noise='gaussian'"),
    (settings({}, **CODEC) | {"privacy": None}, "codec.name='integers' with no [privacy]"),
    (
        settings({"noise": "skellam"}, **CODEC, algorithm={"name": "fedavg"}),
        "codec.name='integers' with algorithm.name='fedavg'",
    ),
    (
        settings({"noise": "skellam"}, **CODEC, algorithm={"name": "sieve"}),
        "codec.name='integers' with algorithm.momentum=0.9",
    ),
    (
        settings({"noise": "skellam", "noise_multiplier": 2000.0}),
        "is too much for integer noise",
    ),
    *(
        (
            settings({"noise": law, key: value}),
            (
                f"privacy.noise={law!r} with privacy.{key}={value!r}: its lattice is planned for "
                f"{why}; allowed is privacy.{key}={allowed!r}, or privacy.noise='gaussian'"
            ),
        )
        for law in INTEGERS
        for key, value, allowed, why in (
            ("unit", "client", "record", "sums of records"),
            ("trust", "distributed", "local", OWN_NOISE),
            ("trust", "central", "local", OWN_NOISE),
        )
    ),
    (
        settings({"clip_quantile": 0.5, "unit": "client"}),
        (
            "privacy.clip_quantile=0.5 with privacy.unit='client': what is counted are the norms "
            "of records; allowed is privacy.unit='record', or a fixed clip"
        ),
    ),
    *(
        (
            settings({"clip_quantile": 0.5, "trust": trust}),
            f"privacy.clip_quantile=0.5 with privacy.trust={trust!r}: each client has to noise its",
        )
        for trust in ("distributed", "central")
    ),
    (
        settings({"clipping": "per-layer", "unit": "client"}),
        (
            "privacy.clipping='per-layer' with privacy.unit='client': a client's update is clipped "
            "as a whole; allowed is privacy.unit='record', or privacy.clipping='flat' or "
            "'automatic'"
        ),
    ),
]


@pytest.mark.parametrize(("config", "text"), REFUSED)
def test_what_does_not_fit_is_refused_before_the_first_round(
    config: dict[str, Any], text: str, own: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=re.escape(text)):
        fedsieve.run(config, tmp_path / "run", data=own)
    assert not (tmp_path / "run").exists()


class Mixing:
    """A projection across layers."""

    refresh = 0

    def plan(self, layout: Any, *_: Any) -> Any:
        class Plan:
            d, k, maps = layout.d, 4, None

            def to(self, _: Any) -> Any:
                return self

        return Plan()


def test_a_projection_that_mixes_layers_is_refused(own: Dataset) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.Tanh(), nn.Linear(4, 3))
    with pytest.raises(ConfigError, match=r"privacy\.clipping='per-layer' with projection"):
        fedsieve.run(
            settings({"clipping": "per-layer"}), data=own, model=model, projection=Mixing()
        )
