"""Arguments of rules and pre-aggregators in a configuration."""

import pytest

from fedsieve.aggregation import NNM, Bucketing, CenteredClipping, Krum, MultiKrum
from fedsieve.experiments import options
from fedsieve.experiments.config import Config
from fedsieve.experiments.toml import ConfigError, dump, load, parse
from fedsieve.registry import component, components


def config(byzantine=2, **aggregation):
    return parse({"federation": {"byzantine": byzantine}, "aggregation": aggregation})


def rule(**aggregation):
    return options.rule(config(f=2, **aggregation).aggregation)


def test_further_keys_are_arguments_of_the_rule():
    assert rule(rule="krum") == Krum(f=2)
    assert rule(rule="multi-krum", m=3) == MultiKrum(f=2, m=3)
    assert rule(rule="krum", neighbours="n-f-1") == Krum(f=2, neighbours="n-f-1")
    assert rule(rule="centered-clipping", tau=1, iterations=2).iterations == 2
    assert rule(rule="centered-clipping", tau=1) == CenteredClipping(f=2, tau=1)


def test_and_of_the_pre_aggregators():
    built = rule(rule="krum", pre=["nnm", "bucketing"], s=3)
    assert built == NNM(f=2) >> Bucketing(s=3) >> Krum(f=2)


def test_they_survive_a_file(tmp_path):
    first = config(rule="multi-krum", m=3)
    path = tmp_path / "run.toml"
    path.write_text(dump(first), encoding="utf-8")
    assert load(path) == first
    assert load(path, ["aggregation.m=4"]).aggregation.model_extra == {"m": 4}
    assert first != config(rule="multi-krum", m=4)


@pytest.mark.parametrize(
    ("aggregation", "message"),
    [
        ({"rule": "multi-krum", "m": 1.5}, r"aggregation\.m=1\.5: allowed is a valid integer"),
        ({"rule": "krum", "neighbours": "all"}, "neighbours='all': allowed is 'n-f-2' or 'n-f-1'"),
        ({"rule": "centered-clipping", "tau": -1.0}, "rule='centered-clipping': tau=-1.0 must be"),
        ({"rule": "multi-krum", "m": 19}, r"aggregation\.rule='multi-krum': m=19 exceeds n - f"),
        ({"rule": "krum", "tau": 1.0}, "aggregation.tau=1.0: it is an option of centered-clipping"),
        ({"rule": "centered-clipping", "tua": 1.0}, "did you mean aggregation.tau"),
        ({"rule": "krum", "seed": 1}, "aggregation.seed=1; allowed are aggregation.rule"),
        ({"xyz": 1}, "unknown key aggregation.xyz=1"),
        ({"rule": "fltrust"}, "compares messages with an update that the server computes itself"),
        ({"rule": "fltrust", "root": 1}, "unknown key aggregation.root=1"),
        ({"rule": "krum", "weights": "n"}, "aggregation.weights='n'"),
        ({"weights": "sizes", "weight_cap": 0.5}, "aggregation.weight_cap=0.5"),
        ({"weights": "equal", "weight_cap": 2.0}, "weight_cap=2: all clients weigh the same"),
        (
            {"rule": "bulyan", "weights": "sizes", "weight_cap": 2.5},
            r"weight_cap=2.5 with f=2 of 20 messages: .* claim 0\.25 .*weight_cap < 2\.5",
        ),
        (
            {"rule": "median", "weights": "sizes", "weight_cap": 5.0},
            r"weight_cap=5 with f=2 of 20 messages: .* claim 0\.5 .* 1 <= .*weight_cap < 5",
        ),
        ({"rule": "krum", "pre": ["bucketing"], "s": 5}, "with 4 rows made of 20 clients"),
        ({"rule": "krum", "pre": ["bucketing"], "s": 10}, "it is not defined for so few"),
    ],
)
def test_what_does_not_fit_is_refused(aggregation, message):
    with pytest.raises(ConfigError, match=message):
        config(byzantine=1 if "pre" in aggregation else 2, **aggregation)


def test_an_option_waits_for_the_default_rule():
    assert config(m=2).aggregation.model_extra == {"m": 2}


@pytest.mark.parametrize("family", ["rule", "pre-aggregator"])
def test_every_one_whose_arguments_have_defaults_can_be_named(family):
    for part in components(family):
        named = {"pre": [part.name]} if family == "pre-aggregator" else {"rule": part.name}
        root = {"root_records": 9} if part.name == "fltrust" else {}
        built = options.rule(
            Config(aggregation={"rule": "mean", "f": 1} | root | named).aggregation
        )
        assert built.f == 1


def test_options_are_what_a_file_can_hold():
    assert options.options(component("rule", "fltrust")) == {}
    assert list(options.options(component("pre-aggregator", "bucketing"))) == ["s"]
