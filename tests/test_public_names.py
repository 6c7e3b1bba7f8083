"""What a package shows is what it says it shows, and every named component explains itself.

(That every ``__all__`` is sorted is ruff's RUF022.)
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import fedsieve
from fedsieve.registry import ROOMS, Component, components

PUBLISHED = ("algorithm", "attack", "pre-aggregator", "projection", "rule")
"""Families whose members name their paper, or say "folklore"."""


def public_packages() -> list[str]:
    found = pkgutil.walk_packages(fedsieve.__path__, prefix="fedsieve.")
    return ["fedsieve", *(m.name for m in found if m.ispkg and "._" not in m.name)]


def bound_names(source: str) -> set[str]:
    """Names that a package's source makes public, as PEP 484 has it: what it defines, and what it
    imports under its own name (``from x import Y as Y``); a plain import is the package's own need.
    """
    statements = ast.parse(source).body
    for branch in [s for s in statements if isinstance(s, ast.If)]:  # if TYPE_CHECKING
        statements += branch.body
    names: set[str] = set()
    for statement in statements:
        match statement:
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                names |= {alias.name for alias in aliases if alias.asname == alias.name}
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.Assign(targets=targets):
                names |= {target.id for target in targets if isinstance(target, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
    return {name for name in names if not name.startswith("_") or name == "__version__"}


def test_bound_names_reads_what_is_public() -> None:
    source = """
import sys
from a import B as B, C
if TYPE_CHECKING:
    from d import E as E
F = 1
_g = 2
H: int = 3
def i(): pass
def _j(): pass
class K: L = 1
"""
    assert bound_names(source) == {"B", "E", "F", "H", "i", "K"}


@pytest.mark.parametrize("package", public_packages())
def test_all_names_exactly_the_public_names(package: str) -> None:
    module = importlib.import_module(package)
    declared = getattr(module, "__all__", [])  # none: nothing of it is public
    assert len(declared) == len(set(declared)), "a name is declared twice"
    assert bound_names(Path(module.__file__).read_text()) == set(declared)
    for name in declared:
        assert getattr(module, name) is not None


@pytest.mark.parametrize("package", public_packages())
def test_every_public_object_has_a_docstring(package: str) -> None:
    module = importlib.import_module(package)
    values = {name: getattr(module, name) for name in getattr(module, "__all__", [])}
    objects = {n: v for n, v in values.items() if inspect.isclass(v) or inspect.isfunction(v)}
    assert not [name for name, value in objects.items() if not inspect.getdoc(value)]


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'train'"):
        fedsieve.train  # noqa: B018 - the access is the test


@pytest.mark.parametrize(
    "part",
    [c for family in ROOMS for c in components(family)],
    ids=lambda part: f"{part.family}:{part.name}",
)
def test_a_component_explains_itself(part: Component) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", part.name), "names are kebab-case"
    assert len(part.summary) > 10
    assert part.summary[-1] in ".?", "a summary is a sentence"
    if part.family in PUBLISHED and part.name != "none":
        assert part.paper, 'cite the paper, or say "folklore"'
