"""The file that a user starts from."""

from __future__ import annotations

import tomllib

from fedsieve.experiments.starter import commented
from fedsieve.experiments.toml import DEMO, keys, parse
from fedsieve.registry import components


def test_the_commented_file_is_the_demo_with_every_key() -> None:
    text = commented()
    assert parse(tomllib.loads(text)) == parse(DEMO)
    known = set(keys())
    for key in known - {key.rpartition(".")[0] for key in known}:
        name = key.rpartition(".")[2]
        assert f"\n{name} = " in text or f"\n# {name} =" in text, key
    assert max(map(len, text.splitlines())) <= 80


def test_it_says_what_is_allowed() -> None:
    text = " ".join(commented().replace("#", "").split())
    assert " | ".join(attack.name for attack in components("attack")) in text
    assert "number of rounds (>= 1)" in text
    assert "delta of the statement (> 0 and < 1)" in text
    assert "add-remove | replace-one | zero-out" in text
