"""Combinations of settings that cannot be run; every message gives key, value and what is allowed.

What the configuration alone decides is checked when a `Config` is made (`combination`); what needs
the data or the model is checked by `fits_data` and `fits_model` before the first round.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from fedsieve.poisoning import Attack, DataAttack, Knowledge
from fedsieve.registry import component

if TYPE_CHECKING:
    from fedsieve.experiments.config import Config, Privacy
    from fedsieve.experiments.resolve import Facts

NOT_PRIVATE = {
    "byrd-saga": "each released difference of table entries is a new query on the same records",
}
"""Algorithms whose messages the mechanism here does not cover, and why."""

NEUTRAL = {"server_lr": 1.0, "momentum": 0.0, "local_steps": 1, "mixing": None, "graph": None}
"""Settings that not every algorithm has, and the value that says as much as leaving them out."""


def noise_is_given_once(privacy: Privacy) -> None:
    """Exactly one of epsilon and noise_multiplier."""
    epsilon, noise = privacy.epsilon, privacy.noise_multiplier
    if epsilon is not None and noise is not None:
        raise ValueError(
            f"privacy.epsilon={epsilon} and privacy.noise_multiplier={noise} are both given; "
            "allowed is one of them, the other follows from it"
        )
    if epsilon is None and noise is None:
        raise ValueError("privacy needs privacy.epsilon > 0 or privacy.noise_multiplier > 0")


def combination(config: Config) -> None:
    """What can be refused before any data is read.

    Raises:
        ValueError: Naming the keys in conflict.
    """
    _federation(config)
    _algorithm(config)
    _attack(config)
    if config.privacy is not None:
        if (why := NOT_PRIVATE.get(config.algorithm.name)) is not None:
            raise ValueError(
                f"algorithm.name={config.algorithm.name!r} cannot be run with [privacy]: {why}; "
                "leave the section out (--set privacy=none) or choose algorithm.name='sieve'"
            )
        _codec(config)
    if config.aggregation.rule is not None:
        rule_withstands(config)


def _federation(config: Config) -> None:
    federation = config.federation
    n, f = federation.clients, federation.byzantine
    if f >= n:
        raise ValueError(
            f"federation.byzantine={f} of federation.clients={n}: somebody must be honest; "
            f"allowed are 0..{n - 1}"
        )
    if isinstance(federation.participation, int) and federation.participation > n:
        raise ValueError(
            f"federation.participation={federation.participation} exceeds "
            f"federation.clients={n}; allowed are 2..{n} or a fraction in (0, 1]"
        )


def _algorithm(config: Config) -> None:
    """A setting that the algorithm does not read must not look as if it did something."""
    settings = config.algorithm
    factory = component("algorithm", settings.name).factory
    reads = {*inspect.signature(factory).parameters} & set(type(settings).model_fields) | {"batch"}
    if getattr(factory, "one_by_one", False):
        reads.add("local_steps")
    elif config.workers not in (1, "auto"):
        raise ValueError(
            f"workers={config.workers}: the clients of algorithm.name={settings.name!r} compute in "
            "one pass; allowed are 1 and 'auto', or an algorithm with local steps such as 'fedavg'"
        )
    for key, neutral in NEUTRAL.items():
        value = getattr(settings, key)
        if key not in reads and value not in (None, neutral):
            raise ValueError(
                f"algorithm.{key}={value!r}: algorithm.name={settings.name!r} has no such setting; "
                f"leave it out (it has {', '.join(sorted(reads))})"
            )


def _attack(config: Config) -> None:
    if config.attack.name != "none" and config.federation.byzantine == 0:
        raise ValueError(
            f"attack.name={config.attack.name!r} with federation.byzantine=0: nobody would attack; "
            "set federation.byzantine >= 1 or attack.name='none'"
        )
    name, options = config.attack.name, config.attack.options
    if name.startswith("custom:"):
        return
    reads = [
        key
        for key in inspect.signature(component("attack", name).factory).parameters
        if key in type(config.attack).model_fields
    ]
    for key, value in options.items():
        if key not in reads:
            has = f" (it has {', '.join(reads)})" if reads else "; name an attack"
            raise ValueError(
                f"attack.{key}={value!r}: attack.name={name!r} has no such setting; "
                f"leave it out{has}"
            )
    attack_may(config, component("attack", name).build(**options))


def attack_may(config: Config, attack: Attack) -> None:
    """Refuse an attack that needs to know what the configuration denies it.

    Raises:
        ValueError: With what the attack needs and what it is granted.
    """
    named, needs = f"attack.name={config.attack.name!r}", attack.knowledge
    if Knowledge.NOISE in needs and config.privacy is None:
        raise ValueError(
            f"{named} is about privacy noise, and this run has none; add [privacy] or choose "
            "another attack"
        )
    if config.attack.knowledge is None:
        return
    missing = needs & ~Knowledge.of(config.attack.knowledge)
    if missing:
        raise ValueError(
            f"attack.knowledge={list(config.attack.knowledge)}: {named} needs "
            f"{list(needs.words)} as it is configured; grant {list(missing.words)}, or choose "
            f"settings that need less ({_that_need_less(config)})"
        )


def _that_need_less(config: Config) -> str:
    """The attack's settings that spare it knowledge."""
    name = config.attack.name
    factory = None if name.startswith("custom:") else component("attack", name).factory
    known = inspect.signature(factory).parameters if factory else {}
    spare = {"strength": "a fixed strength spares the rule", "partial": "partial=true the updates"}
    return ", ".join(text for key, text in spare.items() if key in known) or "it has none"


def _codec(config: Config) -> None:
    if config.codec.name == "none" or not config.codec.before_noise:
        return
    code = component("codec", config.codec.name).build()
    why = "its rounding after the clip would make the sums more sensitive than the noise is for"
    if getattr(code, "data_dependent", True):
        why = "what it keeps depends on the raw private data"
    raise ValueError(
        f"codec.before_noise=true with codec.name={config.codec.name!r} and [privacy]: {why}; "
        "allowed is codec.before_noise=false, which costs no privacy"
    )


def rule_withstands(config: Config) -> None:
    """The rule, and each pre-aggregator, is defined for f malicious messages among the cohort."""
    n, byzantine, f = voters(config), config.federation.byzantine, config.aggregation.f
    key = "federation.byzantine" if f is None or f == byzantine else "aggregation.f"
    f = assumed_f(config) if f is None else f
    named = [("aggregation.rule", "rule", config.aggregation.rule)]
    named += [("aggregation.pre", "pre-aggregator", pre) for pre in config.aggregation.pre or ()]
    for role, family, name in named:
        largest = _breakdown(family, name, n, f)
        if largest is not None and f > largest:
            raise ValueError(
                f"{key}={f} is too many for {role}={name!r} with {n} clients to aggregate; "
                f"the largest allowed is {largest}"
            )


def voters(config: Config) -> int:
    """How many messages the rule sees at a time: a cohort, or a node's neighbourhood."""
    ring = config.algorithm.name == "peer-to-peer" and config.algorithm.graph != "complete"
    return min(3, config.federation.cohort) if ring else config.federation.cohort


def assumed_f(config: Config) -> int:
    """The f of the rule if none is given: all malicious clients, or a minority of neighbours."""
    byzantine = config.federation.byzantine
    if config.algorithm.name != "peer-to-peer":
        return byzantine
    return min(byzantine, (voters(config) - 1) // 2)


def _breakdown(family: str, name: str | None, n: int, f: int) -> int | None:
    """Largest legal f, or ``None`` for a rule without an f, such as the mean."""
    if name is None or name.startswith("custom:"):
        return None
    found = component(family, name)
    if "f" not in inspect.signature(found.factory).parameters:
        return None
    rule: Any = found.build(f=f, n=n)
    return int(rule.breakdown(n)) if hasattr(rule, "breakdown") else (n - 1) // 2


def fits_data(config: Config, *, task: str, owners: bool) -> None:
    """What can be refused once the data set is read, before it is divided.

    Args:
        config: The configuration.
        task: The data set's, "classification" or "regression".
        owners: Whether its records have natural owners.

    Raises:
        ValueError: Naming key, value and what is allowed.
    """
    if config.data.partition == "natural" and not owners:
        raise ValueError(
            f"data.partition='natural': the records of data.name={config.data.name!r} have no "
            "owners; allowed are iid, dirichlet, shards, gamma, extreme"
        )
    if task != "regression":
        return
    name = config.attack.name
    if name != "none" and not name.startswith("custom:") and relabels(name):
        raise ValueError(
            f"attack.name={name!r}: data.name={config.data.name!r} is a regression and has no "
            "classes to flip; choose another attack"
        )
    if config.data.partition in ("dirichlet", "shards", "gamma", "extreme"):
        raise ValueError(
            f"data.partition={config.data.partition!r} sorts by class, and "
            f"data.name={config.data.name!r} is a regression; allowed is iid"
        )


def relabels(attack: str) -> bool:
    """Whether the attack of this name changes labels."""
    factory = component("attack", attack).factory
    return isinstance(factory, type) and issubclass(factory, DataAttack)


def fits_model(config: Config, facts: Facts) -> None:
    """What can be refused once data and model are known; ``config`` is resolved.

    Raises:
        ValueError: Naming key, value and what is allowed.
    """
    k, batch = config.projection.k, config.algorithm.batch
    if k is not None and k > facts.d:
        raise ValueError(
            f"projection.k={k} exceeds the model's d={facts.d} parameters; allowed are 1..{facts.d}"
        )
    smallest = min(facts.sizes)
    if batch is not None and batch > smallest:
        raise ValueError(
            f"algorithm.batch={batch} exceeds the {smallest} records of the smallest client; "
            f"allowed are 1..{smallest}"
        )
    rule_withstands(config)
