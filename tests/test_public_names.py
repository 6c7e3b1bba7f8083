"""What a package shows is what it says it shows, and every named component explains itself.

(That every ``__all__`` is sorted is ruff's RUF022.)
"""

from __future__ import annotations
import __future__

import importlib
import inspect
import pkgutil
import re
from types import ModuleType

import pytest

import fedsieve
from fedsieve.registry import ROOMS, Component, components

PUBLISHED = ("algorithm", "attack", "pre-aggregator", "projection", "rule")
"""Families whose members name their paper, or say "folklore"."""


def public_packages() -> list[str]:
    found = pkgutil.walk_packages(fedsieve.__path__, prefix="fedsieve.")
    return ["fedsieve", *(m.name for m in found if m.ispkg and "._" not in m.name)]


def bound_names(module: ModuleType) -> set[str]:
    """Public names of a package, its own submodules and `from __future__` aside."""
    return {
        name
        for name in dir(module)
        if not name.startswith("_")
        and not isinstance(value := getattr(module, name), __future__._Feature)
        and not (inspect.ismodule(value) and value.__name__.startswith("fedsieve."))
    }


@pytest.mark.parametrize("package", public_packages())
def test_all_names_exactly_the_public_names(package: str) -> None:
    module = importlib.import_module(package)
    declared = module.__all__
    assert len(declared) == len(set(declared)), "a name is declared twice"
    assert bound_names(module) == set(declared) - {"__version__"}
    for name in declared:
        assert getattr(module, name) is not None


@pytest.mark.parametrize("package", public_packages())
def test_every_public_object_has_a_docstring(package: str) -> None:
    module = importlib.import_module(package)
    values = {name: getattr(module, name) for name in module.__all__}
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
    assert part.summary[0].isupper()
    assert part.summary.endswith(".")
    if part.family in PUBLISHED:
        assert part.paper, 'cite the paper, or say "folklore"'
