"""Rules and pre-aggregators by name, with the arguments that a configuration gives them.

Every argument of a component besides f is an option: a further key of ``[aggregation]``, valid if
the named rule or a named pre-aggregator has such an argument, which every one that has it gets.
What belongs to a round (a seed, a previous centre) is no option: the simulation provides it.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from fedsieve.registry import Component, component, components

if TYPE_CHECKING:
    from fedsieve.aggregation import PreAggregator, Rule
    from fedsieve.experiments.sections.aggregation import Aggregation

FAMILIES = {"rule": "rule", "pre-aggregator": "pre"}
"""Family of components -> the key of [aggregation] that names them."""

OF_A_ROUND = ("f", "seed", "v0", "root")
"""Arguments that a simulation gives: the f of the run, what ``Rule.for_round`` fills in, and the
trusted update of ``Rule.trusting``."""

PLAIN = (bool, int, float, str, types.NoneType)
"""What a configuration file can hold."""


def options(part: Component) -> dict[str, Any]:
    """Name -> type of the component's options."""
    hints = get_type_hints(part.factory)
    return {
        field.name: hints[field.name]
        for field in _fields(part)
        if field.name not in OF_A_ROUND and _is_plain(hints[field.name])
    }


def named(aggregation: Aggregation) -> Iterator[Component]:
    """The pre-aggregators, then the rule, as far as they are named and registered."""
    for family, names in (("pre-aggregator", aggregation.pre), ("rule", (aggregation.rule,))):
        for name in names or ():
            if name is not None and not name.startswith("custom:"):
                yield component(family, name)


def made(part: Component, aggregation: Aggregation, f: int) -> Any:
    """The component with f and its options.

    Raises:
        ValueError: Naming the component, with what it refuses or lacks.
    """
    given = aggregation.model_extra or {}
    known = options(part)
    key = f"aggregation.{FAMILIES[part.family]}={part.name!r}"
    needed = [
        field.name
        for field in _fields(part)
        if field.default is field.default_factory is dataclasses.MISSING
        and field.name not in (*OF_A_ROUND, *given)
    ]
    if foreign := [name for name in needed if name not in known]:
        raise ValueError(
            f"{key} needs {', '.join(foreign)}, which no file can hold; "
            "give the rule as an object to fedsieve.run"
        )
    if needed:
        raise ValueError(f"{key} needs {', '.join(f'aggregation.{name}' for name in needed)}")
    try:
        return part.build(f=f, **{name: given[name] for name in known.keys() & given.keys()})
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error


def rule(aggregation: Aggregation) -> Rule:
    """The rule behind its pre-aggregators; both are named and f is filled in."""
    assert aggregation.f is not None
    *pres, last = [made(part, aggregation, aggregation.f) for part in named(aggregation)]
    built: Rule = last
    pre: PreAggregator
    for pre in reversed(pres):
        built = pre >> built
    return built


def check(aggregation: Aggregation) -> None:
    """Every further key is an option of a named component, of the right type.

    As long as no rule is named the key may be an option of any rule.

    Raises:
        ValueError: Naming key and value, and what is allowed.
    """
    parts = list(named(aggregation))
    known = _all(parts)
    for key, value in (aggregation.model_extra or {}).items():
        if key not in known and aggregation.rule is None and key in _all(components("rule")):
            continue
        if key not in known:
            hint = _hint(key, aggregation, known)
            raise ValueError(f"unknown key aggregation.{key}={value!r}{hint}")
        for kind in known[key]:
            try:
                TypeAdapter(kind).validate_python(value, strict=True)
            except ValidationError as error:
                allowed = " or ".join(
                    one["msg"].removeprefix("Input should be ") for one in error.errors()
                )
                raise ValueError(f"aggregation.{key}={value!r}: allowed is {allowed}") from error
    for part in parts:
        made(part, aggregation, aggregation.f or 0)


def _fields(part: Component) -> list[dataclasses.Field[Any]]:
    """The constructor's arguments; of a factory that is no dataclass none are known."""
    kind: Any = part.factory
    return [f for f in dataclasses.fields(kind) if f.init] if dataclasses.is_dataclass(kind) else []


def _all(parts: list[Component]) -> dict[str, list[Any]]:
    """Option -> the types that the components which have it want."""
    found: dict[str, list[Any]] = {}
    for part in parts:
        for name, kind in options(part).items():
            found.setdefault(name, []).append(kind)
    return found


def _hint(key: str, aggregation: Aggregation, known: dict[str, list[Any]]) -> str:
    fields = [*type(aggregation).model_fields, *known]
    if near := difflib.get_close_matches(key, fields, n=1):
        return f"; did you mean aggregation.{near[0]}?"
    owners = [part.name for part in components("rule") if key in options(part)]
    owners += [part.name for part in components("pre-aggregator") if key in options(part)]
    if owners:
        return f": it is an option of {', '.join(owners)}"
    return f"; allowed are {', '.join(f'aggregation.{field}' for field in fields)}"


def _is_plain(hint: Any) -> bool:
    if get_origin(hint) is Literal:
        return True
    if get_origin(hint) in (Union, types.UnionType):
        return all(_is_plain(kind) for kind in get_args(hint))
    return hint in PLAIN
