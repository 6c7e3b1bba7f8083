"""Reading, writing and explaining configurations as text."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsieve.experiments.toml import ConfigError, dump, load, parse, refusing

SETTINGS = st.fixed_dictionaries(
    {"seed": st.integers(0, 2**40), "rounds": st.integers(1, 10**6)},
    optional={
        "name": st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=20),
        "workers": st.sampled_from(["auto", 1]),  # sieve computes in one pass
        "model": st.fixed_dictionaries({"hidden": st.lists(st.integers(1, 4096), max_size=3)}),
        "federation": st.fixed_dictionaries(
            {
                "clients": st.just(40),
                "participation": st.one_of(st.floats(0.01, 1), st.integers(1, 40)),
                "dropout": st.floats(0, 0.99),
            }
        ),
        "privacy": st.fixed_dictionaries(
            {"epsilon": st.floats(1e-3, 1e3), "delta": st.floats(1e-12, 0.5)}
        ),
        "aggregation": st.fixed_dictionaries(
            {"rule": st.just("caf"), "pre": st.lists(st.just("nnm"), max_size=2)}
        ),
    },
)


@given(SETTINGS)
def test_written_and_read_again_is_equal(settings: dict[str, object]) -> None:
    config = parse(settings)
    assert parse(tomllib.loads(dump(config))) == config


def test_a_file_and_overrides(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('rounds = 3\n[privacy]\nepsilon = 2.0\n[data]\nname = "digits"\n')
    config = load(file, ["rounds=5", "privacy.noise_multiplier=0.7"])
    assert config.rounds == 5
    assert config.data.name == "digits"
    assert config.privacy is not None
    assert config.privacy.epsilon is None


def test_what_is_wrong_in_a_file_is_said_with_its_name(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("rounds = 0\n")
    with pytest.raises(ConfigError, match=r"run\.toml: rounds=0"):
        load(file)


def test_broken_toml_is_quoted_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("rounds = 3\nseed = seven\n")
    with pytest.raises(ConfigError, match=r"run\.toml, line 2: 'seed = seven' is no TOML"):
        load(file)
    file.write_text("[data\n")
    with pytest.raises(ConfigError, match=r"run\.toml, line 1: '\[data'"):
        load(file)
    file.write_text('rounds = """3\n')
    with pytest.raises(ConfigError, match=r"run\.toml, line"):
        load(file)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the configuration"):
        load(tmp_path / "missing.toml")
    with pytest.raises(ConfigError, match="cannot read the configuration"):
        load(tmp_path)
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(binary)


def test_a_setting_cannot_smuggle_in_another() -> None:
    with pytest.raises(ConfigError, match="more than one TOML value"):
        load(None, ["name=1\nrounds=2"])


def test_values_have_no_keys() -> None:
    with pytest.raises(ConfigError, match="has no keys"):
        load(None, ["rounds=3", "rounds.x=3"])


def test_only_value_errors_become_refusals() -> None:
    with pytest.raises(ConfigError, match="f=3 is too many"), refusing():
        raise ValueError("f=3 is too many")
    with pytest.raises(KeyError), refusing():
        raise KeyError("a bug stays a bug")
