"""The words that go with a number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsieve.experiments import readable, statement
from fedsieve.experiments.summary import Summary


def test_an_epsilon_never_stands_alone(a_summary: Callable[..., Summary]) -> None:
    summary = a_summary().as_dict()
    for text in (
        " ".join(statement.privacy(summary, {"algorithm": {"batch": 50}})),
        statement.privacy_line(summary),
    ):
        for part in (
            "3.999",
            "1e-05",
            "record",
            "add-remove",
            "Poisson",
            "PLD",
            "operating system",
        ):
            assert part in text


def test_seeded_noise_is_named_for_what_it_is(a_summary: Callable[..., Summary]) -> None:
    seeded = replace(a_summary(), noise_source="simulation seed 3").as_dict()
    told = statement.privacy(seeded, {})[-1]
    assert "never for real data" in told
    assert "who joined each batch" in told  # the draws are as well known as the noise
    assert "never for real data" not in " ".join(statement.privacy(a_summary().as_dict(), {}))


def test_it_says_what_it_takes_for_granted(a_summary: Callable[..., Summary]) -> None:
    told = " ".join(statement.privacy(a_summary().as_dict(), {"algorithm": {"batch": 50}}))
    assert "nominal sizes are public" in told
    assert "50 records expected per step, the draws secret" in told
    assert "Source of noise and draws: operating system entropy, expanded by AES-128-CTR." in told


def test_no_privacy_is_said(a_summary: Callable[..., Summary]) -> None:
    summary = a_summary(private=False).as_dict()
    assert statement.privacy(summary, {})[0].startswith("No differential privacy")
    assert dict(readable.rows(summary))["privacy"] == "none (no differential privacy)"


@pytest.mark.parametrize("relation", ["add-remove", "replace-one", "zero-out"])
def test_every_relation_has_words(relation: str, a_summary: Callable[..., Summary]) -> None:
    summary = replace(a_summary(), neighbouring_relation=relation).as_dict()
    assert relation in statement.privacy(summary, {})[0]


@given(st.floats(1e-6, 1e6))
def test_a_printed_epsilon_is_an_upper_bound(value: float) -> None:
    printed = float(statement.epsilon(value))
    assert value * (1 - 1e-11) <= printed <= value * 1.0011
