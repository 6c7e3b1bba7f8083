"""The options in [attack] and [aggregation] of an arena: each goes to those that know it.

An option that nobody knows is refused, as is one whose value nobody takes. Where some take it, the
runs of the others are not defined, each for its reason. A strength means something else to each
attack, so each may be given its own, which it has to take.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from fedsieve.experiments import attacks, checks, options
from fedsieve.experiments.config import Config
from fedsieve.experiments.sections.aggregation import Aggregation
from fedsieve.experiments.sections.attack import Attack
from fedsieve.registry import components

GENERAL = ("start", "stop", "knowledge")
"""Settings that every attack has."""

Strengths = Mapping[str, float | str]
"""Attack -> the strength that it has in place of that of all."""

Composition = tuple[tuple[str, ...], str]
"""Pre-aggregators and rule."""

Reader = TypeVar("Reader", str, Composition)


def of_attack(given: Attack, name: str, strengths: Strengths) -> Attack:
    """The attack of this name, with those of the settings that it knows and its own strength."""
    own = {"strength": strengths[name]} if name in strengths else {}
    named = given.model_copy(update={"name": name, **own})
    known = {"name", *_known(named)}
    fields = Attack.model_fields.items()
    return named.model_copy(update={k: v.default for k, v in fields if k not in known})


def of_rule(given: Aggregation, composition: Composition) -> Aggregation:
    """The composition, with those of the options that one of its parts knows."""
    pre, rule = composition
    values = given.model_dump(exclude_none=True) | {"rule": rule, "pre": pre}
    known = _options(composition)
    foreign = [key for key in given.model_extra or {} if key not in known]
    return Aggregation.model_validate({k: v for k, v in values.items() if k not in foreign})


def without(config: Config) -> Config:
    """The configuration that all runs have in common: no attack, and no option of any rule."""
    extra = config.aggregation.model_extra or {}
    values = config.aggregation.model_dump(exclude=set(extra), exclude_none=True)
    bare = Aggregation.model_validate(values)
    return config.model_copy(update={"attack": Attack(), "aggregation": bare})


def check(
    config: Config,
    names: Sequence[str],
    strengths: Strengths,
    compositions: Sequence[Composition],
    f: int,
) -> None:
    """Every option is known to one of these attacks or rules, and its value allowed there.

    Args:
        config: Holds the options.
        names: Attacks.
        strengths: Their own strengths.
        compositions: Rules.
        f: A number of malicious clients, at least 1.

    Raises:
        ValueError: Naming key and value, and what is allowed.
    """
    common = without(config)
    some = common.federation.model_copy(update={"byzantine": f})

    def attack(name: str) -> None:
        own = of_attack(config.attack, name, strengths)
        checks.combination(common.model_copy(update={"attack": own, "federation": some}))

    def rule(composition: Composition) -> None:
        options.check(of_rule(config.aggregation, composition))

    for name, strength in strengths.items():
        what = f"arena.strengths.{name}={strength!r}"
        if name not in names:
            raise ValueError(f"{what}: it is none of arena.attacks={list(names)}")
        if "strength" not in _of_name(name):
            raise ValueError(f"{what}: attack {name!r} has no strength; leave it out")
        try:
            attack(name)
        except ValueError as refused:
            raise ValueError(f"{what}: {refused}") from refused
    for key, value in config.attack.model_dump(exclude_defaults=True).items():
        served = strengths if key == "strength" else ()
        readers = [
            name
            for name in names
            if name not in served and key in _known(config.attack.model_copy(update={"name": name}))
        ]
        if not readers:
            owners = [part.name for part in components("attack") if key in _of_name(part.name)]
            raise ValueError(_unread(f"attack.{key}={value!r}", "arena.attacks", owners))
        _taken(readers, attack)
    for key, value in (config.aggregation.model_extra or {}).items():
        takers = [one for one in compositions if key in _options(one)]
        if not takers:
            parts = [*components("rule"), *components("pre-aggregator")]
            owners = [part.name for part in parts if key in options.options(part)]
            known = {name for part in parts for name in options.options(part)}
            near = difflib.get_close_matches(key, [*Aggregation.model_fields, *known], n=1)
            hint = [] if owners else near
            raise ValueError(_unread(f"aggregation.{key}={value!r}", "arena.rules", owners, hint))
        _taken(takers, rule)


def _taken(readers: Sequence[Reader], trial: Callable[[Reader], None]) -> None:
    """One of the readers takes what is given, or the first one's refusal is raised."""
    refusals = []
    for reader in readers:
        try:
            trial(reader)
        except ValueError as refused:
            refusals.append(refused)
        else:
            return
    raise refusals[0]


def _unread(what: str, where: str, owners: Sequence[str], near: Sequence[str] = ()) -> str:
    if near:
        return f"unknown key {what}; did you mean aggregation.{near[0]}?"
    remedy = f", or add one that has, such as {owners[0]!r}" if owners else ""
    return f"{what}: none of {where} has such a setting; leave it out{remedy}"


def _known(named: Attack) -> list[str]:
    """What an attack reads; to do nothing, nothing is read."""
    return [] if named.name == "none" else [*GENERAL, *attacks.settings(named)]


def _of_name(name: str) -> list[str]:
    return _known(Attack(name=name))


def _options(composition: Composition) -> dict[str, Any]:
    pre, rule = composition
    parts = options.named(Aggregation(rule=rule, pre=pre))
    return {name: kind for part in parts for name, kind in options.options(part).items()}
