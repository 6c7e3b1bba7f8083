"""Every attack by its name in a run, and what a configuration may deny it."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import fedsieve
from fedsieve.aggregation import Mean
from fedsieve.experiments import attacks
from fedsieve.experiments import run as running
from fedsieve.experiments.sections.attack import Attack
from fedsieve.experiments.toml import ConfigError, load
from fedsieve.learning.data import Dataset
from fedsieve.learning.datasets.own import from_arrays
from fedsieve.learning.nearness import Nearness
from fedsieve.poisoning import ConstrainAndScale, Knowledge, MessageAttack, Scene
from fedsieve.registry import components

NAMES = [c.name for c in components("attack") if c.name != "none"]
NOISY = [c.name for c in components("attack") if Knowledge.NOISE in c.build().knowledge]


@pytest.fixture(scope="module")
def own() -> Dataset:
    """Three kinds of 4 x 4 images, 20 for each of seven clients."""
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 150, size=(3, 1, 4, 4))
    y = rng.integers(3, size=180)
    x = (patterns[y] + rng.integers(0, 100, size=(180, 1, 4, 4))).astype(np.uint8)
    return from_arrays(x[:140], y[:140], x[140:], y[140:], mean=0.5, std=0.3)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the figures out: they take longer than everything else."""
    monkeypatch.setattr(running, "report", lambda _: None)


def settings(name: str, *, private: bool = False, **attack: Any) -> dict[str, Any]:
    privacy = {"noise_multiplier": 1.0, "noise_seed": 1}
    return {
        "rounds": 2,
        "federation": {"clients": 7, "byzantine": 2},
        "attack": {"name": name, **attack},
        "model": {"name": "softmax"},
        "algorithm": {"name": "sieve", "batch": 4},
        "projection": {"name": "random-mask", "k": 20, "refresh": 1},
        "aggregation": {"rule": "trimmed-mean"},
        "evaluation": {"every": 2},
    } | ({"privacy": privacy} if private else {})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("undrawn")
def test_every_attack_runs_by_its_name_and_changes_the_run(own: Dataset, name: str) -> None:
    private = name in NOISY
    attacked = fedsieve.run(settings(name, private=private), data=own)
    assert attacked.summary["attack"] == name
    assert attacked.theta.isfinite().all()
    quiet = settings(name, private=private) | {"attack": {"name": "none"}}
    honest = fedsieve.run(quiet, data=own)
    assert not attacked.theta.equal(honest.theta)


def refusal(*changes: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(None, changes)
    return str(caught.value)


def test_an_attack_is_refused_what_it_is_denied() -> None:
    told = refusal("attack.name=alie", "attack.knowledge=['updates']")
    assert "attack.knowledge=['updates']" in told
    assert "attack.name='alie' needs ['updates', 'rule']" in told
    assert "grant ['rule']" in told
    assert "a fixed strength spares the rule" in told
    for name in ("fang-krum", "mimic", "min-max", "zero-gradient"):
        assert "needs ['updates']" in refusal(f"attack.name={name}", "attack.knowledge=[]")
    known = "attack.knowledge=['updates','rule']"
    assert "grant ['projection']" in refusal("attack.name=mask-aware", known)
    assert "grant ['noise']" in refusal("attack.name=un-noised", "attack.knowledge='data'")
    told = refusal("attack.name=constrain-and-scale", "attack.knowledge=[]")
    assert "needs ['updates']" in told
    assert "a fixed norm spares the updates" in told


@pytest.mark.parametrize(
    "changes",
    [
        ("attack.name=alie", "attack.strength=1.5", "attack.knowledge='updates'"),
        ("attack.name=alie", "attack.strength=published", "attack.partial=true"),
        ("attack.name=sign-flip", "attack.strength=1"),
        ("attack.name=fang-trimmed-mean", "attack.partial=true"),
        ("attack.name=label-flip",),
        ("attack.name=gaussian",),
        ("attack.name=edge-case",),
        ("attack.name=model-replacement", "attack.backdoor=dba"),
        ("attack.name=neurotoxin", "attack.norm=1.0"),
        ("attack.name=constrain-and-scale", "attack.norm=1.0"),
    ],
)
def test_what_needs_less_is_allowed(changes: tuple[str, ...]) -> None:
    granted = () if any("knowledge" in change for change in changes) else ("attack.knowledge=[]",)
    load(None, [*changes, *granted])


def test_an_attack_on_noise_needs_noise() -> None:
    for name in NOISY:
        assert "this run has none; add [privacy]" in refusal(f"attack.name={name}", "privacy=none")


def test_an_attack_on_noise_needs_messages_that_carry_some() -> None:
    central = ("privacy.epsilon=4", "privacy.trust=central", "aggregation.rule=mean")
    for name in NOISY:
        told = refusal(f"attack.name={name}", *central)
        assert f"attack.name='{name}' with privacy.trust='central'" in told
        assert "messages carry none to hide in or to omit" in told
    told = refusal("attack.name=un-noised", "attack.pairs=keep", "privacy.epsilon=4")
    assert "attack.pairs='keep' with privacy.trust='local': clients share no noise" in told
    load(None, ["attack.name=un-noised", "attack.pairs=keep", "privacy.trust=distributed"])


def test_staying_near_the_model_needs_local_steps() -> None:
    named = "attack.name=constrain-and-scale"
    told = refusal(named, "attack.alpha=0.5", "algorithm.name=dshb")
    assert "attack.alpha=0.5 with algorithm.name='dshb'" in told
    assert "attack.evades='cosine' with" in refusal(named, "attack.evades=cosine")
    changes = [named, "attack.alpha=0.5", "attack.evades=cosine", "algorithm.name=fedavg"]
    made = attacks.attack(load(None, [*changes, "privacy=none", "projection.name=identity"]))
    assert isinstance(made, ConstrainAndScale)
    assert made.near == Nearness(0.5, "cosine")


@pytest.mark.usefixtures("undrawn")
def test_the_servers_draws_are_known_only_where_that_is_granted(own: Dataset) -> None:
    def ends(*knowledge: str) -> Any:
        rule = {"aggregation": {"rule": "trimmed-mean", "pre": ["bucketing"], "f": 1}}
        given = settings("line-search", knowledge=["updates", "rule", *knowledge])
        return fedsieve.run(given | rule | {"federation": {"clients": 7, "byzantine": 1}}, data=own)

    guessed, known = ends(), ends("randomness")
    assert not guessed.theta.equal(known.theta)


def test_settings_that_an_attack_does_not_read_are_refused() -> None:
    told = refusal("attack.name=foe", "attack.direction=std")
    assert told.endswith("attack.name='foe' has no such setting; leave it out (it has strength)")
    assert "attack.warm_up=3" in refusal("attack.name=alie", "attack.warm_up=3")
    assert "strength='published' must be" in refusal("attack.name=foe", "attack.strength=published")
    told = refusal("attack.name=fang-median", "attack.space=parameters", "attack.partial=true")
    assert "space='parameters' with partial=True" in told
    assert "direction='own' is not one of" in refusal("attack.name=min-max", "attack.direction=own")


def test_every_key_is_an_argument_and_every_argument_a_key() -> None:
    read = {key for c in components("attack") for key in attacks.settings(Attack(name=c.name))} | {
        "name",
        "knowledge",
        "start",
        "stop",
    }
    assert read == set(Attack.model_fields)
    for c in components("attack"):
        arguments = set(inspect.signature(c.factory).parameters)
        assert arguments <= read | {"trigger", "server_lr"}, c.name  # made of other settings


def test_a_backdoor_that_is_sent_is_built_with_its_own_settings() -> None:
    inside = Attack(name="neurotoxin", backdoor="edge-case")
    assert {"mask_ratio", "norm", "backdoor", "source", "tail"} <= {*attacks.settings(inside)}
    assert "size" not in attacks.settings(inside)
    assert "attack.name='neurotoxin': source=3 must be another class" in refusal(
        "attack.name=neurotoxin", "attack.backdoor=edge-case", "attack.source=3", "attack.target=3"
    )


class Curious(MessageAttack):
    """Needs everything."""

    @property
    def knowledge(self) -> Knowledge:
        return Knowledge.UPDATES | Knowledge.DATA

    def craft(self, scene: Scene) -> Any:
        return scene.rows(scene.mean)


@pytest.mark.usefixtures("undrawn")
def test_the_callers_own_attack_is_asked_as_well(own: Dataset) -> None:
    denied = settings("alie", knowledge=["updates", "rule"])
    with pytest.raises(ValueError, match=r"custom:Curious' needs \['updates', 'data'\]"):
        fedsieve.run(denied, data=own, attack=Curious(), rule=Mean())


def test_knowledge_in_words_and_back() -> None:
    for flags in (Knowledge.NOTHING, Knowledge.RULE, Knowledge.UPDATES | Knowledge.NOISE):
        assert Knowledge.of(flags.words) == flags
    assert (Knowledge.UPDATES | Knowledge.RULE).words == ("updates", "rule")
