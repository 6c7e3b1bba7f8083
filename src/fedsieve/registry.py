"""The one list of named components.

A component registers itself where it is defined; the command line's ``list``, the configuration
schema, the documentation's tables and the conformance tests all read this list. A new file in a
component's room is found by itself: nothing else has to be edited.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

ROOMS = {
    "algorithm": "fedsieve.algorithms",
    "rule": "fedsieve.aggregation",
    "pre-aggregator": "fedsieve.aggregation",
    "attack": "fedsieve.poisoning",
    "mechanism": "fedsieve.privacy",
    "local-mechanism": "fedsieve.privacy.local_dp",
    "discrete-mechanism": "fedsieve.privacy.discrete",
    "projection": "fedsieve.compression.projections",
    "codec": "fedsieve.compression.codecs",
    "model": "fedsieve.learning.models",
    "dataset": "fedsieve.learning.datasets",
    "partition": "fedsieve.learning.partitions",
}
"""Family of components -> the package in which its files live."""

T = TypeVar("T", bound=Callable[..., Any])


@dataclass(frozen=True)
class Component:
    """One named part: what builds it, one sentence on it, and where it was published."""

    family: str
    name: str
    factory: Callable[..., Any]
    paper: str

    @property
    def summary(self) -> str:
        """First sentence of the factory's docstring."""
        text = inspect.getdoc(self.factory) or ""
        return " ".join(text.split("\n\n")[0].split())

    def build(self, **offered: Any) -> Any:
        """Call the factory with those of the offered arguments that it names."""
        known = inspect.signature(self.factory).parameters
        return self.factory(**{key: value for key, value in offered.items() if key in known})


class UnknownComponentError(ValueError):
    """A name that no component of the family carries."""


_components: dict[tuple[str, str], Component] = {}


def register(family: str, name: str, *, paper: str = "") -> Callable[[T], T]:
    """Put the decorated class or function on the list as ``name`` of ``family``.

    Args:
        family: A key of `ROOMS`.
        name: Kebab-case name used in configurations.
        paper: Short citation, or "folklore"; empty where there is nothing to cite.

    Raises:
        ValueError: Unknown family, or the name is taken by another factory.
    """
    if family not in ROOMS:
        raise ValueError(f"family={family!r} is not one of {', '.join(sorted(ROOMS))}")

    def add(factory: T) -> T:
        held = _components.get((family, name))
        if held is not None and held.factory.__qualname__ != factory.__qualname__:
            raise ValueError(f"{family} {name!r} is already {held.factory.__qualname__}")
        _components[family, name] = Component(family, name, factory, paper)
        return factory

    return add


def components(family: str) -> list[Component]:
    """Every component of a family, by name."""
    if family not in ROOMS:
        raise UnknownComponentError(f"family={family!r} is not one of {', '.join(sorted(ROOMS))}")
    _discover(ROOMS[family])
    return [c for (held, _), c in sorted(_components.items()) if held == family]


def component(family: str, name: str) -> Component:
    """The component of that name.

    Raises:
        UnknownComponentError: With the names that exist and the nearest one.
    """
    known = {c.name: c for c in components(family)}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise UnknownComponentError(
        f"no {family} is called {name!r}{hint} (there are: {', '.join(known)})"
    )


@cache
def _discover(room: str) -> None:
    package = importlib.import_module(room)
    for module in pkgutil.iter_modules(package.__path__, prefix=f"{room}."):
        importlib.import_module(module.name)
