"""The JSON schema knows every component and every range."""

from __future__ import annotations

import json

import pytest

from fedsieve.experiments.schema import schema
from fedsieve.registry import components


@pytest.mark.parametrize(
    ("section", "key", "family"),
    [
        ("Algorithm", "name", "algorithm"),
        ("Data", "name", "dataset"),
        ("Data", "partition", "partition"),
        ("Model", "name", "model"),
        ("Attack", "name", "attack"),
        ("Projection", "name", "projection"),
        ("Aggregation", "rule", "rule"),
    ],
)
def test_components_are_enumerated(section: str, key: str, family: str) -> None:
    held = schema()["$defs"][section]["properties"][key]
    options = held.get("enum") or next(o["enum"] for o in held["anyOf"] if "enum" in o)
    assert {c.name for c in components(family)} <= set(options)


def test_lists_of_components_are_enumerated() -> None:
    pre = schema()["$defs"]["Aggregation"]["properties"]["pre"]
    (array,) = (o for o in pre["anyOf"] if o.get("type") == "array")
    assert "nnm" in array["items"]["enum"]


def test_it_is_closed_and_holds_ranges_and_meanings() -> None:
    full = schema()
    assert full["additionalProperties"] is False
    assert full["properties"]["rounds"]["minimum"] == 1
    assert all(
        "description" in field
        for definition in full["$defs"].values()
        for field in definition["properties"].values()
    )
    assert '"family"' not in json.dumps(full)
