"""Every public name explains itself: its parameters one by one, and what it refuses."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import itertools
import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.test_public_names import public_packages

OWED = {
    "MDA.check",
    "MultiKrum.check",
    "RobustLearningRate.check",
}
"""Do not say all of it yet; nothing may join them."""


def public(package: str) -> Iterator[tuple[str, Any]]:
    """The public classes and functions of a package."""
    module = importlib.import_module(package)
    for name in getattr(module, "__all__", ()):
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            yield name, value


def refusals(package: str) -> Iterator[tuple[str, Callable[..., Any], str]]:
    """What a package lets others call, and the docstring in which its refusals belong."""
    for name, value in public(package):
        if inspect.isfunction(value):
            yield name, value, inspect.getdoc(value) or ""
            continue
        maker = "__post_init__" if dataclasses.is_dataclass(value) else "__init__"
        for method, held in vars(value).items():
            function = getattr(held, "__func__", held)
            if not inspect.isfunction(function) or not function.__module__.startswith("fedsieve"):
                continue
            if method == maker:
                yield name, function, inspect.getdoc(value) or ""
            elif not method.startswith("_"):
                yield f"{name}.{method}", function, inspect.getdoc(getattr(value, method)) or ""


def parameters(value: Any) -> set[str]:
    """What a caller gives."""
    if dataclasses.is_dataclass(value):
        return {f.name for f in dataclasses.fields(value) if f.init and f.name[0] != "_"}
    if inspect.isclass(value):
        value = vars(value).get("__init__")
        if not inspect.isfunction(value) or value.__module__ == "typing":  # none, or a protocol's
            return set()
    return set(inspect.signature(value).parameters) - {"self"}


def ours(value: Any) -> list[Any]:
    """A function alone; a class and those above it that this library wrote."""
    held = getattr(value, "__mro__", (value,))
    return [one for one in held if one.__module__.startswith("fedsieve")]


def told_beside(owner: Any) -> set[str]:
    """The fields of a class, and of those above it, that have a docstring of their own."""
    told: set[str] = set()
    for held in ours(owner) if inspect.isclass(owner) else ():
        body = _tree(held).body[0].body  # type: ignore[attr-defined]
        for line, after in itertools.pairwise(body):
            match line, after:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant()):
                    told.add(name)
    return told


def raises(function: Any) -> bool:
    """Whether a function itself raises an error of its own."""
    inner = [n for n in ast.walk(_tree(function)) if isinstance(n, ast.Raise)]
    return any(n.exc is not None for n in inner)


def _tree(held: Any) -> ast.Module:
    return ast.parse(textwrap.dedent(inspect.getsource(held)))


def test_the_finders_see_what_is_missing() -> None:
    def told(x: int) -> None:
        if x:
            raise ValueError

    assert parameters(told) == {"x"}
    assert raises(told)
    assert not raises(parameters)


@pytest.mark.parametrize("package", public_packages())
def test_every_parameter_is_explained(package: str) -> None:
    silent = []
    for name, value in public(package):
        text = " ".join(inspect.getdoc(held) or "" for held in ours(value))
        left = {p for p in parameters(value) if not re.search(rf"\b{re.escape(p)}\b", text)}
        silent += [f"{name}: {p}" for p in sorted(left - told_beside(value)) if name not in OWED]
    assert not silent


@pytest.mark.parametrize("package", public_packages())
def test_every_refusal_is_announced(package: str) -> None:
    silent = [
        name
        for name, function, told in refusals(package)
        if raises(function) and "Raises:" not in told and name not in OWED
    ]
    assert not silent
