"""What an arena plays: a base configuration, and who meets whom.

The file of an arena has the keys of a run and one section more::

    rounds = 100
    [data]
    name = "mnist"
    [arena]
    rules = ["mean", "trimmed-mean", "nnm >> caf"]
    attacks = ["label-flip", "alie"]
    byzantine = [2, 4]
    seeds = [0, 1, 2]

What the arena itself decides (the rule, the attack, how many clients are malicious, the seed) may
not stand in the base as well. Options of attacks and rules may: each goes to those that know it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Any, Literal, Self, TypeVar

import tomli_w
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from fedsieve.experiments import attacks, checks, toml
from fedsieve.experiments.arena import shared
from fedsieve.experiments.config import Config
from fedsieve.experiments.sections.attack import Attack
from fedsieve.experiments.words import Count, Section, Strength
from fedsieve.learning.datasets import DataError, sources
from fedsieve.registry import component, components

NO_ATTACK = "none"
"""The column that every rule needs beside the attacks: what it costs when nobody attacks."""

THEN = " >> "
"""Between a pre-aggregator and what comes after it."""

RULES = (
    "mean",
    "median",
    "trimmed-mean",
    "meamed",
    "krum",
    "multi-krum",
    "geometric-median",
    "centered-clipping",
    "cge",
    "caf",
    "nnm >> trimmed-mean",
    "nnm >> caf",
)
"""The rules that play where none are named. Rules that search all subsets of the clients, such as
smea, are asked some 25 times a round by an attack with a line search, and must be named."""

ATTACKS = (
    "label-flip",
    "sign-flip",
    "gaussian",
    "alie",
    "foe",
    "mimic",
    "min-max",
    "fang-krum",
    "fang-trimmed-mean",
)
"""The attacks that play where none are named."""

DECIDED = {
    "seed": "arena.seeds",
    "workers": "arena.workers",
    "attack.name": "arena.attacks",
    "federation.byzantine": "arena.byzantine",
    "aggregation.rule": "arena.rules",
    "aggregation.pre": "arena.rules",
    "checkpoint": None,
}
"""Key of a run that the arena decides -> where it is told to, if it can be told."""

T = TypeVar("T", str, int)


def composed(rule: str) -> tuple[tuple[str, ...], str]:
    """Pre-aggregators and rule of a composition.

    Example:
        >>> composed("nnm >> trimmed-mean")
        (('nnm',), 'trimmed-mean')
    """
    *pre, last = (name.strip() for name in rule.split(THEN.strip()))
    return tuple(pre), last


def _composition(rule: str) -> str:
    """The composition, each of its names known, spelled in one way."""
    pre, last = composed(rule)
    for name in pre:
        component("pre-aggregator", name)
    component("rule", last)
    return THEN.join([*pre, last])


def _attack(name: str) -> str:
    component("attack", name)
    return name


def _once(values: tuple[T, ...]) -> tuple[T, ...]:
    if not values:
        raise ValueError("allowed is one value or more")
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise ValueError(f"{', '.join(map(str, twice))} twice; allowed is every value once")
    return values


def _tuple(value: Any) -> Any:
    single = isinstance(value, str | int) and not isinstance(value, bool)
    return (value,) if single else tuple(value) if isinstance(value, list) else value


def _listed(doc: str) -> tuple[Any, ...]:
    return (
        Field(strict=False, description=doc),
        BeforeValidator(_tuple),
        AfterValidator(_once),
    )


def _present(families: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
    """Those of the wanted names, or compositions of names, that are registered."""
    known = {held.name for family in families for held in components(family)}
    return tuple(one for one in wanted if known.issuperset(one.split(THEN)))


class Lineup(Section):
    """Who meets whom."""

    rules: Annotated[
        tuple[Annotated[str, AfterValidator(_composition)], ...],
        *_listed('rules, each a name or a composition such as "nnm >> trimmed-mean"'),
    ] = Field(default_factory=lambda: _present(("rule", "pre-aggregator"), RULES))
    attacks: Annotated[
        tuple[Annotated[str, AfterValidator(_attack)], ...],
        *_listed('attacks; "none", everybody honest, is always played besides'),
    ] = Field(default_factory=lambda: _present(("attack",), ATTACKS))
    byzantine: Annotated[
        tuple[Annotated[int, Field(ge=0)], ...],
        *_listed("how many clients are malicious; several give curves in f/n"),
    ] = (4,)
    seeds: Annotated[
        tuple[Annotated[int, Field(ge=0)], ...],
        *_listed("seeds of the runs that each figure is the mean of"),
    ] = (0,)
    strengths: dict[str, Strength | Literal["published"]] = Field(
        default_factory=dict,
        description="fixed strength of an attack, by its name, in place of attack.strength",
    )
    workers: Count | Literal["auto"] = Field(
        default="auto", description='processes of one thread each; "auto": one per core'
    )


class Setup(Config):
    """The configuration of an arena: that of its runs, and who meets whom."""

    arena: Lineup = Field(default_factory=Lineup, description="who meets whom")

    @model_validator(mode="before")
    @classmethod
    def _undecided(cls, values: Any) -> Any:
        """Refuse, before anything else, what a base configuration must leave to the arena."""
        for key, instead in DECIDED.items():
            section, _, inner = key.partition(".")
            held = values.get(section) if isinstance(values, Mapping) else None
            if inner:
                held = held.get(inner) if isinstance(held, Mapping) else None
            if held is not None:
                remedy = f"give {instead} instead" if instead else "leave it out"
                raise ValueError(f"{key}={held!r}: the arena decides it for every run; {remedy}")
        return values

    @model_validator(mode="after")
    def _possible(self) -> Self:
        """What all runs have in common can be run, and every option is one of somebody's."""
        checks.combination(shared.without(self))
        attacks = [name for name in self.arena.attacks if name != NO_ATTACK]
        some = min((f for f in self.arena.byzantine if f), default=1)
        rules = [composed(rule) for rule in self.arena.rules]
        shared.check(self, attacks, self.arena.strengths, rules, some)
        return self

    @model_validator(mode="after")
    def _root_is_looked_at(self) -> Self:
        size, rules = self.aggregation.root_records, self.arena.rules
        if size and not any(_needs_root(composed(rule)[1]) for rule in rules):
            raise ValueError(
                f"aggregation.root_records={size}: none of arena.rules looks at records of the "
                "server's; leave it out, or add a rule that does, such as 'fltrust'"
            )
        return self

    @property
    def title(self) -> str:
        """The arena's name, or what it is about."""
        return self.name or f"{self.model.name} on {self.data.name}, {self.algorithm.name}"


@dataclass(frozen=True)
class Cell:
    """One run of the arena.

    Args:
        rule: The rule's name, or a composition.
        attack: The attack's name.
        f: Number of malicious clients, which the rule is told.
        seed: Seed of the run.
    """

    rule: str
    attack: str
    f: int
    seed: int

    @property
    def key(self) -> str:
        """A name that may stand in a file's.

        Example:
            >>> Cell("nnm >> caf", "alie", 4, 0).key
            'nnm+caf_alie_f4_seed0'
        """
        return f"{self.rule.replace(THEN, '+')}_{self.attack}_f{self.f}_seed{self.seed}"

    def __str__(self) -> str:
        return f"{self.rule} against {self.attack}, f={self.f}, seed={self.seed}"


@dataclass(frozen=True)
class Plan:
    """The runs of an arena.

    Args:
        setup: Its configuration.
    """

    setup: Setup

    @property
    def columns(self) -> tuple[str, ...]:
        """No attack, then the attacks."""
        return (NO_ATTACK, *self.attacks)

    @property
    def attacks(self) -> tuple[str, ...]:
        """The attacks; doing nothing is none of them."""
        return tuple(name for name in self.setup.arena.attacks if name != NO_ATTACK)

    def cells(self) -> Iterator[Cell]:
        """Every run: for each f and seed, each rule without an attack and against each of them.

        With f = 0 nobody can attack: one run stands for all columns.
        """
        arena = self.setup.arena
        for f, seed, rule in product(arena.byzantine, arena.seeds, arena.rules):
            for attack in self.columns if f else (NO_ATTACK,):
                yield Cell(rule, attack, f, seed)

    def base(self) -> Config:
        """The configuration that all runs have in common: everybody honest, no rule named."""
        values = _base(shared.without(self.setup))
        values["aggregation"].pop("root_records", None)  # for those rules that look at some
        return toml.parse(values)

    def config(self, cell: Cell) -> Config:
        """The configuration of a run.

        Raises:
            ConfigError: The rule is not defined for this f, or the run is impossible otherwise.
        """
        values = _base(self.setup)
        pre, rule = composed(cell.rule)
        values["name"] = str(cell)
        values["seed"] = cell.seed
        values["federation"]["byzantine"] = cell.f
        attack = self._attack(cell.attack)
        values["attack"] = attack.model_dump(mode="json", exclude_none=True)
        aggregation = shared.of_rule(self.setup.aggregation, (pre, rule))
        values["aggregation"] = aggregation.model_dump(mode="json", exclude_none=True)
        if not _needs_root(rule):
            values["aggregation"].pop("root_records", None)
        return toml.parse(values)

    @property
    def backdoors(self) -> tuple[Attack, ...]:
        """The settings of the attacks that are backdoors."""
        return tuple(self._attack(name) for name in self.attacks if attacks.is_backdoor(name))

    def _attack(self, name: str) -> Attack:
        return shared.of_attack(self.setup.attack, name, self.setup.arena.strengths)

    def dump(self) -> str:
        """The plan as TOML, complete; loading it again gives an equal one."""
        values = _base(self.setup) | {"arena": self.setup.arena.model_dump(mode="json")}
        return tomli_w.dumps(values)


def _needs_root(rule: str) -> bool:
    return bool(component("rule", rule).build(f=0).needs_root)


def _base(setup: Config) -> dict[str, Any]:
    """The keys of a run without those that the arena decides."""
    left: dict[str, Any] = {"arena": True}
    for key in DECIDED:
        section, _, inner = key.partition(".")
        left[section] = left.get(section, set()) | {inner} if inner else True
    return setup.model_dump(mode="json", exclude_none=True, exclude=left)


def load(path: Any = None, overrides: Sequence[str] = ()) -> Plan:
    """The plan of a file, or of none.

    Args:
        path: A TOML file; ``None`` is softmax regression on MNIST where that is on this machine,
            and on the embedded part of Fashion-MNIST elsewhere.
        overrides: ``path.to.key=value`` each, as for a run.

    Raises:
        ConfigError: As for a run; or a key that the arena decides.
    """
    default = DEFAULT if path is None else {}
    if path is None and not any(one.replace(" ", "").startswith("data.name=") for one in overrides):
        default = default | {"data": default["data"] | {"name": _at_hand(overrides)}}
    setup = toml.load(path, overrides, kind=Setup, default=default)
    assert isinstance(setup, Setup)
    return Plan(setup)


DEFAULT: dict[str, Any] = {
    "rounds": 100,
    "data": {"partition": "dirichlet", "alpha": 0.5},
    "federation": {"clients": 20},
    "model": {"name": "softmax"},
    "algorithm": {"name": "dshb"},
    "evaluation": {"every": 100},
}
"""The base of the arena that is played without a file. The clients' data differ: with equal ones
nearly every rule stands nearly every attack."""


def _at_hand(overrides: Sequence[str]) -> str:
    """MNIST if it is here or may be fetched."""
    given = dict(toml.parsed(one) for one in overrides)
    try:
        found = sources("mnist", given.get("data.dir"))
    except DataError:
        return "mnist"  # loading it says what is wrong
    here = given.get("data.download") is True or any(one.state == "complete" for one in found)
    return "mnist" if here else "fashion-mnist-subset"


def unlike(begun: Plan, now: Plan) -> dict[str, tuple[str, str]]:
    """Key -> (as it was, as it is), for what may not change while an arena is interrupted."""
    was, found = _compared(begun), _compared(now)
    keys = [key for key in {**was, **found} if was.get(key) != found.get(key)]
    return {key: (was.get(key, "nothing"), found.get(key, "nothing")) for key in keys}


def _compared(plan: Plan) -> dict[str, str]:
    values = _base(plan.setup) | {"arena": plan.setup.arena.model_dump(mode="json")}
    flat = toml.flat(values)
    free = ("name", "device", "data.dir", "data.download", "arena.workers")
    given = {key: value for key, value in flat.items() if key not in free and value != {}}
    return {key: json.dumps(value) for key, value in given.items()}
