"""The pages that are made from the code: the table of components and one API page per package.

A hook of mkdocs (see mkdocs.yml): the pages exist only while the documentation is built, so they
can never disagree with the code. ``python docs/generate.py`` prints the table.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import fedsieve
from fedsieve.registry import ROOMS, Component, components

NAMES = {"algorithm": "Algorithms", "dataset": "Data sets", "rule": "Aggregation rules"}
"""Headings where the family's name with an "s" does not do."""

TOPICS = ("projections", "privacy", "rules", "poisoning", "arena", "randomness", "checkpoints")
"""The concept pages in the order of a first reading."""


def component_page() -> str:
    """Every registered component by family, with its summary and its paper."""
    parts = [
        "# Components",
        "What `fedsieve list` shows and a configuration may name, made from the registry.",
    ]
    for family in ROOMS:
        held = components(family)
        if held:
            heading = NAMES.get(family, f"{family.capitalize()}s")
            parts += [f"## {heading}", _table(held)]
    return "\n\n".join(parts) + "\n"


def public_packages() -> list[str]:
    """The packages of fedsieve that show public names, from the top."""
    found = pkgutil.walk_packages(fedsieve.__path__, prefix="fedsieve.")
    names = ["fedsieve", *sorted(m.name for m in found if m.ispkg and "._" not in m.name)]
    return [name for name in names if getattr(importlib.import_module(name), "__all__", ())]


def api_page(package: str) -> str:
    """One package: its docstring, then every public object."""
    module = importlib.import_module(package)
    names = [name for name in module.__all__ if not name.startswith("_")]
    parts = [f"# `{package}`", inspect.getdoc(module) or ""]
    return "\n\n".join(parts + [f"::: {package}.{name}" for name in names]) + "\n"


def on_config(config):
    """Order the pages (called by mkdocs): what to read first stands first."""
    pages = [f"api/{package}.md" for package in public_packages()]
    config.nav = [
        {"Home": "index.md"},
        {"Architecture": "architecture.md"},
        {"Your own": "own.md"},
        {"Concepts": [f"concepts/{topic}.md" for topic in TOPICS]},
        {"Components": "components.md"},
        {"API": ["api/index.md", *pages]},
    ]
    return config


def on_files(files, config):
    """Add the generated pages to the documentation (called by mkdocs)."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, "components.md", content=component_page()))
    index = ["# API", "The public names, package by package.", ""]
    for package in public_packages():
        files.append(File.generated(config, f"api/{package}.md", content=api_page(package)))
        summary = (inspect.getdoc(importlib.import_module(package)) or "").split("\n\n")[0]
        index.append(f"* [`{package}`]({package}.md): {summary}")
    files.append(File.generated(config, "api/index.md", content="\n".join(index) + "\n"))
    return files


def _table(held: list[Component]) -> str:
    rows = ["| name | what it is | published in |", "|---|---|---|"]
    rows += [f"| `{c.name}` | {_cell(c.summary)} | {_cell(c.paper)} |" for c in held]
    return "\n".join(rows)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(component_page())
