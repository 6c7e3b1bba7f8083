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

NAMES = {"algorithm": "Algorithms", "attack": "Attacks", "rule": "Aggregation rules"}
"""Headings where the family's name with an "s" does not do."""


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
    """One package: its docstring, then every public object where it is defined."""
    module = importlib.import_module(package)
    parts = [f"# `{package}`", inspect.getdoc(module) or ""]
    for name in module.__all__:
        home = getattr(getattr(module, name), "__module__", None)
        if home is not None and home.startswith("fedsieve"):
            parts.append(f"::: {home}.{name}")
    return "\n\n".join(parts) + "\n"


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
