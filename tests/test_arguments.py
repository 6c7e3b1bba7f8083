"""The arguments of every rule, pre-aggregator and attack: what is taken, and how else it refuses.

Fed from the registry: an argument is tested by the type that its signature gives it.
"""

from __future__ import annotations

import math
import types
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import pytest

from fedsieve._arguments import choice, flag, instance, integer, real
from fedsieve.registry import Component, components

PARTS = [part for family in ("rule", "pre-aggregator", "attack") for part in components(family)]
NEEDED = {"f": 2, "alie.partial": {"strength": 1.0}}
"""Arguments without which nothing is built, or without which another one is not allowed."""

ZERO = {"sigma", "lambda_", "L", "strength", "relocation"}
"""Real arguments that may be 0."""

NEGATIVE = {"alie", "line-search"}
"""Attacks whose strength may be negative."""

TOPMOST = {"theta": 3, "target": 4, "source": 3}  # where small integers exclude each other


def kinds(part: Component) -> dict[str, set[Any]]:
    """Argument -> what it may be, by its type."""
    hints = get_type_hints(part.factory)
    found = {}
    for name in (field.name for field in fields(part.factory)):
        hint = hints[name]
        united = get_origin(hint) in (Union, types.UnionType)
        found[name] = set(get_args(hint)) if united else {hint}
    return found


def arguments(kind: Any) -> list[Any]:
    """Every argument of every part that is of that type."""
    return [
        pytest.param(part, name, id=f"{part.name}.{name}")
        for part in PARTS
        for name, found in kinds(part).items()
        if kind in found or any(get_origin(one) is kind for one in found)
    ]


def built(part: Component, **given: Any) -> Any:
    more = next((NEEDED.get(f"{part.name}.{name}", {}) for name in given), {})
    return part.build(**{"f": NEEDED["f"]} | more | given)


@pytest.mark.parametrize(("part", "name"), arguments(int))
def test_an_integer_may_be_numpys(part, name):
    value = TOPMOST.get(name, 2)
    for kind in (np.int64, np.int8, np.uint16):
        made = built(part, **{name: kind(value)})
        assert made == built(part, **{name: value})
        assert type(getattr(made, name)) is int
        assert repr(made) == repr(built(part, **{name: value}))


@pytest.mark.parametrize(("part", "name"), arguments(int))
@pytest.mark.parametrize(
    "wrong", [True, np.bool_(1), 3.0, 2.5, np.float64(3), math.nan, "3", -1, np.int64(-1), [3], 3j]
)
def test_what_is_no_integer_is_refused_by_name_and_value(part, name, wrong):
    with pytest.raises(ValueError) as refused:
        built(part, **{name: wrong})
    assert f"{name}={wrong!r} must be an integer >= " in str(refused.value)


@pytest.mark.parametrize(("part", "name"), arguments(float))
def test_a_real_number_may_be_of_any_type(part, name):
    for value in (1, np.float32(1), np.float64(1), np.int64(1), Fraction(1)):
        made = built(part, **{name: value})
        assert made == built(part, **{name: 1.0})
        assert type(getattr(made, name)) is float


@pytest.mark.parametrize(("part", "name"), arguments(float))
@pytest.mark.parametrize(
    "wrong", [math.nan, np.float32("nan"), math.inf, -math.inf, True, "1", [1.0], 1j, 10**400]
)
def test_what_is_no_finite_number_is_refused_by_name_and_value(part, name, wrong):
    with pytest.raises(ValueError) as refused:
        built(part, **{name: wrong})
    assert f"{name}={wrong!r} must " in str(refused.value)


@pytest.mark.parametrize(("part", "name"), arguments(float))
@pytest.mark.parametrize("wrong", [-1.0, -1e-300, np.float32(-1), 0.0, -0.0, 0])
def test_a_real_number_out_of_range_is_refused_by_name_and_value(part, name, wrong):
    may_be_zero = name in ZERO and part.name != "index-poisoning"
    if (wrong == 0 and may_be_zero) or (name == "strength" and part.name in NEGATIVE):
        built(part, **{name: wrong})
        return
    with pytest.raises(ValueError) as refused:
        built(part, **{name: wrong})
    assert f"{name}={wrong!r} must " in str(refused.value)


@pytest.mark.parametrize(("part", "name"), arguments(bool))
def test_a_flag_is_true_or_false(part, name):
    assert built(part, **{name: np.bool_(True)}) == built(part, **{name: True})
    for wrong in (1, 0.0, "yes", None):
        with pytest.raises(ValueError, match=f"{name}={wrong!r} must be True or False"):
            built(part, **{name: wrong})


@pytest.mark.parametrize(("part", "name"), arguments(Literal))
@pytest.mark.parametrize("wrong", ["a word that nobody knows", 3j, ["std"], b"std"])
def test_another_word_is_refused_by_name_and_value(part, name, wrong):
    with pytest.raises(ValueError) as refused:
        built(part, **{name: wrong})
    assert f"{name}={wrong!r} " in str(refused.value)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: f"{part.family} {part.name}")
def test_none_is_taken_where_the_signature_says_so(part):
    for name, found in kinds(part).items():
        if types.NoneType in found:
            built(part, **{name: None})
        else:
            with pytest.raises(ValueError, match=f"{name}=None "):
                built(part, **{name: None})


@pytest.mark.parametrize("part", PARTS, ids=lambda part: f"{part.family} {part.name}")
def test_every_argument_is_tested_by_its_type(part):
    for name, found in kinds(part).items():
        tested = {int, float, bool, Literal, types.NoneType}
        plain = {get_origin(one) or one for one in found} & tested
        assert plain or name in ("v0", "root", "trigger", "backdoor", "file")


@dataclass(frozen=True)
class Sample:
    """One argument of any kind."""

    x: Any


@pytest.mark.parametrize(
    ("check", "value", "message"),
    [
        (lambda s: integer(s, "x", 1, 3), 4, r"x=4 must be an integer in 1..3$"),
        (lambda s: integer(s, "x", none="to rest"), -1, "x=-1 must be an integer >= 0, or None to"),
        (lambda s: real(s, "x"), math.inf, "x=inf must be finite$"),
        (lambda s: real(s, "x", above=0), 0, "x=0 must be finite and > 0$"),
        (lambda s: real(s, "x", least=2), 1.5, "x=1.5 must be finite and >= 2$"),
        (lambda s: real(s, "x", above=0, most=1), 0.0, r"x=0.0 must lie in \(0, 1\]$"),
        (lambda s: real(s, "x", least=0, most=1, none="for 1"), 2, r"in \[0, 1\], or None for 1$"),
        (lambda s: choice(s, "x", ("a", "b")), "c", "x='c' is not one of a, b$"),
        (lambda s: flag(s, "x"), 1, "x=1 must be True or False$"),
        (lambda s: instance(s, "x", Fraction), 1, "x=1 must be a fractions.Fraction$"),
    ],
)
def test_a_refusal_names_what_is_allowed(check, value, message):
    with pytest.raises(ValueError, match=message):
        check(Sample(value))


def test_the_ends_of_an_interval_are_in_it_as_it_says():
    for check, values in (
        (lambda s: integer(s, "x", 1, 3), (1, 3)),
        (lambda s: real(s, "x", least=0, most=1), (0, 1)),
        (lambda s: real(s, "x", above=0, most=1), (1e-300, 1)),
        (lambda s: real(s, "x"), (-1e308, 1e308)),
        (lambda s: integer(s, "x", none="to rest"), (None,)),
    ):
        for value in values:
            sample = Sample(value)
            check(sample)
            assert sample == Sample(value)
