"""What a configuration accepts, what it refuses and how it says so."""

from __future__ import annotations

from pathlib import Path

import pydantic
import pytest

from fedsieve.experiments import toml
from fedsieve.experiments.config import Config
from fedsieve.experiments.toml import DEMO, ConfigError, load, parse
from fedsieve.registry import component

PUBLIC_KEYS = """
seed rounds device name data.name data.dir data.partition data.alpha federation.clients
federation.byzantine federation.participation federation.dropout model.name model.hidden
algorithm.name algorithm.lr algorithm.momentum algorithm.batch algorithm.local_steps
projection.name projection.k privacy.epsilon privacy.delta privacy.clip privacy.noise_multiplier
privacy.clipping privacy.noise_seed attack.name attack.strength aggregation.rule aggregation.pre
codec.name checkpoint.every
"""


def refusal(*settings: str, file: Path | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(file, settings)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_every_public_key_exists() -> None:
    assert set(PUBLIC_KEYS.split()) <= set(toml.keys())


def test_every_key_has_a_meaning() -> None:
    def meanings(section: type[pydantic.BaseModel]) -> None:
        assert section.__doc__
        for name, field in section.model_fields.items():
            inner = toml.section_of(field)
            if inner is not None:
                meanings(inner)
            else:
                assert field.description, name

    meanings(Config)


def test_no_file_is_the_demo() -> None:
    demo = load()
    assert demo == parse(DEMO)
    assert (demo.data.name, demo.federation.clients, demo.federation.byzantine) == (
        "fashion-mnist",
        20,
        4,
    )
    assert (demo.attack.name, demo.algorithm.name, demo.model.hidden) == ("alie", "sieve", (64,))
    assert demo.privacy is not None
    assert (demo.privacy.epsilon, demo.privacy.delta) == (4.0, 1e-5)


def test_a_file_without_a_privacy_section_has_no_privacy(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("rounds = 3\n")
    config = load(file)
    assert config.privacy is None
    assert config.attack.name == "none"


def test_the_line_of_the_manual() -> None:
    config = load(
        None,
        [
            "data.name=mnist",
            "federation.clients=20",
            "federation.byzantine=4",
            "attack.name=alie",
            "privacy.epsilon=1",
            "algorithm.name=sieve",
            "rounds=150",
            "seed=7",
        ],
    )
    assert (config.data.name, config.rounds, config.seed) == ("mnist", 150, 7)
    assert config.privacy is not None
    assert config.privacy.epsilon == 1.0


@pytest.mark.parametrize(
    ("setting", "key", "value"),
    [
        ("data.name=mnist", "data.name", "mnist"),
        ('data.name="mnist"', "data.name", "mnist"),
        ("data.dir=/some/where else", "data.dir", "/some/where else"),
        ("aggregation.pre=nnm", "aggregation.pre", ("nnm",)),
        ('aggregation.pre=["nnm"]', "aggregation.pre", ("nnm",)),
        ("aggregation.pre=[]", "aggregation.pre", ()),
        ("model.hidden=32", "model.hidden", (32,)),
        ("model.hidden=[32, 16]", "model.hidden", (32, 16)),
        ("federation.participation=0.5", "federation.participation", 0.5),
        ("federation.participation=5", "federation.participation", 5),
        ("federation.participation=1", "federation.participation", 1.0),
        ("algorithm.lr=1", "algorithm.lr", 1.0),
        ("workers=auto", "workers", "auto"),
        ("data.download=true", "data.download", True),
        ("attack={name='foe'}", "attack.name", "foe"),
        ("device=cuda:1", "device", "cuda:1"),
        ("data.name=custom:mine", "data.name", "custom:mine"),
    ],
)
def test_overrides(setting: str, key: str, value: object) -> None:
    found: object = load(None, [setting])
    for part in key.split("."):
        found = getattr(found, part)
    assert found == value


def test_the_cohort_follows_from_the_participation() -> None:
    def cohort(participation: float) -> int:
        return parse(
            {"federation": {"clients": 10, "participation": participation}}
        ).federation.cohort

    assert [cohort(1), cohort(1.0), cohort(0.25), cohort(0.01), cohort(4)] == [10, 10, 2, 1, 4]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (
            "federation.clientz=3",
            "unknown key federation.clientz=3; did you mean federation.clients?",
        ),
        ("clients=3", "unknown key clients=3; did you mean federation.clients?"),
        ("lr=3", "unknown key lr=3; did you mean algorithm.lr?"),
        ("zzz=3", "unknown key zzz=3; allowed are name, seed"),
        ("rounds=0", "rounds=0: allowed is greater than or equal to 1"),
        ("rounds=ten", "rounds='ten': allowed is a valid integer"),
        ("rounds=1.5", "rounds=1.5"),
        ("rounds=true", "rounds=True"),
        ("seed=-1", "seed=-1"),
        ("rounds.x=3", "rounds"),
        ("device=tpu", "device='tpu': allowed is auto, cpu, cuda or cuda:N"),
        ("attack=3", "attack=3: attack is a section"),
        ("data.alpha=0", "data.alpha=0: allowed is greater than 0"),
        ("algorithm.lr=inf", "algorithm.lr=inf"),
        ("algorithm.momentum=1", "algorithm.momentum=1: allowed is less than 1"),
        ("federation.dropout=1", "federation.dropout=1"),
        ("federation.participation=1.5", "federation.participation=1.5: allowed is a fraction"),
        ("federation.participation=0", "federation.participation=0"),
        (
            "federation.participation=21",
            "federation.participation=21 exceeds federation.clients=20",
        ),
        ("federation.byzantine=20", "federation.byzantine=20 of federation.clients=20"),
        ("privacy.epsilon=0", "privacy.epsilon=0: allowed is greater than 0"),
        ("privacy.epsilon=-1", "privacy.epsilon=-1"),
        ("privacy.delta=0", "privacy.delta=0: allowed is greater than 0"),
        ("privacy.delta=1", "privacy.delta=1: allowed is less than 1"),
        ("privacy.relation=swap", "'add-remove', 'replace-one' or 'zero-out'"),
        (
            "data.name=mnits",
            "data.name='mnits': no dataset is called 'mnits'; did you mean 'mnist'?",
        ),
        ("attack.name=ali", "attack.name='ali': no attack is called 'ali'; did you mean 'alie'?"),
        ("aggregation.pre=[1]", "aggregation.pre[0]=1"),
        ("aggregation.pre=nnn", "aggregation.pre[0]='nnn'"),
        ("aggregation.rule=means", "did you mean 'mean'?"),
        ("aggregation.pre=[nnm]", "is no TOML value"),
        ("federation", "--set 'federation' is not of the form path.to.key=value"),
        ("=3", "is not of the form"),
        ("attack.strength.x=1", "attack.strength"),
        ("algorithm.name=byrd-saga", "cannot be run with [privacy]"),
        ("workers=0", "workers=0: allowed is greater than or equal to 1 or 'auto'"),
    ],
)
def test_refusals_name_key_value_and_what_is_allowed(setting: str, words: str) -> None:
    assert words in refusal(setting)


def test_both_or_no_noise_is_refused() -> None:
    assert "both given" in refusal("privacy.epsilon=1", "privacy.noise_multiplier=2")
    with pytest.raises(ConfigError, match=r"privacy needs privacy\.epsilon"):
        parse({"privacy": {"clip": 1.0}})


def test_an_attack_without_attackers_is_refused() -> None:
    assert "federation.byzantine >= 1" in refusal("federation.byzantine=0", "attack.name=alie")
    assert "attack.name='none'" in refusal("attack.name=none", "attack.strength=2.0")
    assert load(None, ["attack.name=none"]).federation.byzantine == 4


def test_the_demo_gives_way_to_the_user() -> None:
    assert load(None, ["federation.byzantine=0"]).attack.name == "none"
    assert load(None, ["privacy=none"]).privacy is None
    private = load(None, ["privacy.noise_multiplier=1.5"]).privacy
    assert private is not None
    assert (private.epsilon, private.noise_multiplier) == (None, 1.5)


@pytest.mark.parametrize("rule", ["trimmed-mean", "caf"])
def test_f_is_bounded_by_the_rule_and_the_cohort(rule: str) -> None:
    largest = component("rule", rule).build(f=1).breakdown(10)
    settings = {"clients": 10, "byzantine": largest}
    parse({"federation": settings, "aggregation": {"rule": rule}})
    settings["byzantine"] = largest + 1
    with pytest.raises(ConfigError, match=rf"byzantine={largest + 1} .*'{rule}' with 10 clients.*"):
        parse({"federation": settings, "aggregation": {"rule": rule}})
    parse({"federation": settings, "aggregation": {"rule": rule, "f": largest}})
    half = {"clients": 10, "byzantine": 3, "participation": 0.5}
    with pytest.raises(ConfigError, match="with 5 clients to aggregate"):
        parse({"federation": half, "aggregation": {"rule": rule}})


def test_the_mean_is_not_bounded() -> None:
    parse({"federation": {"clients": 10, "byzantine": 6}, "aggregation": {"rule": "mean"}})


def test_pre_aggregators_are_bounded_too() -> None:
    many = {"clients": 10, "byzantine": 6}
    with pytest.raises(ConfigError, match=r"rule='nnm >> \w.*' with 10 clients.* allowed is 4"):
        parse({"federation": many, "aggregation": {"rule": "mean", "pre": ["nnm"]}})


@pytest.mark.parametrize(
    ("name", "settings", "refused"),
    [
        ("fedavg", {"local_steps": 3, "server_lr": 0.5, "momentum": 0.0}, None),
        ("sieve", {"momentum": 0.5, "local_steps": 1, "server_lr": 1.0}, None),
        ("peer-to-peer", {"mixing": 0.3, "graph": "complete"}, None),
        ("fedavg", {"momentum": 0.9}, "momentum=0.9"),
        ("sieve", {"local_steps": 2}, "local_steps=2"),
        ("dshb", {"server_lr": 0.5}, "server_lr=0.5"),
        ("scaffold", {"graph": "ring"}, "graph='ring'"),
    ],
)
def test_a_setting_that_nobody_reads_is_refused(
    name: str, settings: dict[str, object], refused: str | None
) -> None:
    values = {"algorithm": {"name": name, **settings}}
    if refused is None:
        parse(values)
        return
    with pytest.raises(ConfigError, match=f"algorithm.{refused}: .*{name}.* has no such setting"):
        parse(values)


def test_no_code_comes_between_clip_and_noise() -> None:
    before = {"before_noise": True}
    private = {"epsilon": 1.0}
    with pytest.raises(
        ConfigError, match=r"'top-k' and \[privacy\]: what it keeps depends on the raw"
    ):
        parse({"codec": {"name": "top-k", **before}, "privacy": private})
    with pytest.raises(ConfigError, match=r"'raw16' and \[privacy\]: its rounding"):
        parse({"codec": {"name": "raw16", **before}, "privacy": private})
    parse({"codec": {"name": "top-k"}, "privacy": private})
    parse({"codec": {"name": "top-k", **before}})


def test_a_configuration_does_not_change() -> None:
    with pytest.raises(pydantic.ValidationError):
        Config().rounds = 3  # type: ignore[misc]


def test_the_title_says_what_the_run_is() -> None:
    assert load().title == "sieve-fashion-mnist-alie-seed0"
    assert load(None, ["name=mine"]).title == "mine"
