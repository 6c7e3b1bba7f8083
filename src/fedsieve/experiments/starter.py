"""The commented file that ``fedsieve init`` writes: every key, its meaning, what is allowed."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import tomli_w
from pydantic import BaseModel

from fedsieve.experiments.schema import schema
from fedsieve.experiments.toml import DEMO, parse

BOUNDS = (
    ("exclusiveMinimum", "> {}"),
    ("minimum", ">= {}"),
    ("exclusiveMaximum", "< {}"),
    ("maximum", "<= {}"),
)


def commented() -> str:
    """The demo's configuration with every key, its meaning and its range; it loads as the demo."""
    demo, known = parse(DEMO), schema()
    lines = [
        "# A FedSieve run: fedsieve run FILE",
        "# A key behind '#' is left to the algorithm's own default.",
        "",
    ]
    sections = []
    for key, field in known["properties"].items():
        value = getattr(demo, key)
        if isinstance(value, BaseModel):
            sections.append((key, value))
        else:
            lines += _entry(key, field, value)
    for key, section in sections:
        described = known["$defs"][type(section).__name__]
        lines += [*_wrapped(described["description"].splitlines()[0]), f"[{key}]"]
        for inner, field in described["properties"].items():
            lines += _entry(inner, field, getattr(section, inner))
    return "\n".join(lines).rstrip() + "\n"


def _entry(key: str, field: Mapping[str, Any], value: Any) -> list[str]:
    shown = f"# {key} =" if value is None else tomli_w.dumps({key: value}).rstrip()
    if isinstance(value, tuple):
        shown = f"{key} = [{', '.join(map(repr, value))}]"
    allowed = _allowed(field)
    text = field["description"] + (f" ({allowed})" if allowed else "")
    return [*_wrapped(text), shown, ""]


def _allowed(field: Mapping[str, Any]) -> str:
    """Names or range of a key, from its schema; empty where its description says enough."""
    kinds = [field, *field.get("anyOf", ())]
    kinds += [kind["items"] for kind in kinds if "items" in kind]
    for kind in kinds:
        if "enum" in kind:
            return " | ".join(kind["enum"])
        bounds = [words.format(kind[name]) for name, words in BOUNDS if name in kind]
        if bounds:
            return " and ".join(bounds)
    return ""


def _wrapped(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, 77, break_on_hyphens=False)]
