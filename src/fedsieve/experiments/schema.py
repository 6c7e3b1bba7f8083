"""The JSON schema of a configuration, with the names of all components that are registered."""

from __future__ import annotations

from typing import Any

from fedsieve.experiments.config import Config
from fedsieve.experiments.words import UNREGISTERED
from fedsieve.registry import components


def schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of the configuration file, for editors and other programs."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **_with_names(Config.model_json_schema()),
    }


def _with_names(node: Any) -> Any:
    """The schema with every ``family`` replaced by the names of that family."""
    if isinstance(node, list):
        return [_with_names(item) for item in node]
    if not isinstance(node, dict):
        return node
    out = {key: _with_names(value) for key, value in node.items() if key != "family"}
    family = node.get("family")
    if isinstance(family, str):
        names = {c.name for c in components(family)} | set(UNREGISTERED.get(family, ()))
        target = next((o for o in out.get("anyOf", ()) if o.get("type") == "string"), out)
        target["enum"] = sorted(names)
    return out
