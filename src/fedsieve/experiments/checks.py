"""Combinations of settings that cannot be run; every message gives key, value and what is allowed.

What the configuration alone decides is checked when a `Config` is made (`combination`); what needs
the data or the model is checked by `fits_data` and `fits_model` before the first round.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from fedsieve.experiments import attacks, options, protection
from fedsieve.experiments.words import CUSTOM
from fedsieve.registry import component

if TYPE_CHECKING:
    from fedsieve.aggregation import Rule
    from fedsieve.experiments.config import Config
    from fedsieve.experiments.resolve import Facts
    from fedsieve.poisoning import Attack

NEUTRAL = {"server_lr": 1.0, "momentum": 0.0, "local_steps": 1, "mixing": None, "graph": None}
"""Settings that not every algorithm has, and the value that says as much as leaving them out."""


def combination(config: Config) -> None:
    """What can be refused before any data is read.

    Raises:
        ValueError: Naming the keys in conflict.
    """
    _federation(config)
    _algorithm(config)
    _attack(config)
    protection.combination(config)
    options.check(config.aggregation)
    _weights(config)
    _root(config)
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
    share = config.federation.stragglers
    if share and ("local_steps" not in reads or settings.local_steps == 1):
        raise ValueError(
            f"federation.stragglers={share:g}: a straggler omits some of its local steps, and "
            f"algorithm.name={settings.name!r} makes one; leave it out, or choose an algorithm "
            "with local steps, such as 'fedavg', and algorithm.local_steps >= 2"
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
    attack = config.attack
    if attack.name != "none" and attack.start >= config.rounds:
        raise ValueError(
            f"attack.start={attack.start} with rounds={config.rounds}: it would never begin; "
            f"allowed are 0..{config.rounds - 1}"
        )
    if attack.stop is not None and attack.stop <= attack.start:
        raise ValueError(
            f"attack.stop={attack.stop} with attack.start={attack.start}: it would end before it "
            f"begins; allowed is >= {attack.start + 1}"
        )
    if attack.stop is not None and attack.name != "none" and attack.stop > config.rounds:
        raise ValueError(
            f"attack.stop={attack.stop} with rounds={config.rounds}: it would never end; leave it "
            f"out, or choose {attack.start + 1}..{config.rounds}"
        )
    if attack.name.startswith("custom:"):
        return
    own = attacks.settings(attack)
    general = ["name"] + (["knowledge", "start", "stop"] if attack.name != "none" else [])
    for key, field in type(attack).model_fields.items():
        if key not in own + general and (value := getattr(attack, key)) != field.default:
            has = f" (it has {', '.join(own)})" if own else ""
            raise ValueError(
                f"attack.{key}={value!r}: attack.name={attack.name!r} has no such setting; "
                f"leave it out{has}"
            )
    attacks.check_local_steps(config)
    attacks.check_unread(attack)
    if (made := attacks.attack(config)) is not None:
        attack_may(config, made)


def attack_may(config: Config, attack: Attack) -> None:
    """Refuse an attack that needs to know what the configuration denies it.

    Raises:
        ValueError: With what the attack needs and what it is granted.
    """
    from fedsieve.poisoning import Knowledge  # only now: torch loads slowly

    attacks.check_noise(config, attack)
    named, needs = f"attack.name={config.attack.name!r}", attack.knowledge
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
    spare = {
        "strength": "a fixed strength spares the rule",
        "partial": "partial=true the updates",
        "norm": "a fixed norm spares the updates",
    }
    return ", ".join(text for key, text in spare.items() if key in known) or "it has none"


def rule_withstands(config: Config) -> None:
    """The rule behind its pre-aggregators is defined for f malicious messages among the cohort.

    Raises:
        ValueError: With the key that gives f and the largest one allowed, or what else is refused.
    """
    from fedsieve.aggregation.pre_aggregator import Mixed  # only now: torch loads slowly

    settings, n, byzantine = config.aggregation, voters(config), config.federation.byzantine
    assert settings.rule is not None
    key = "federation.byzantine" if settings.f in (None, byzantine) else "aggregation.f"
    f = assumed_f(config) if settings.f is None else settings.f
    if settings.rule.startswith(CUSTOM):  # it is asked when it is there
        if settings.pre:
            raise ValueError(
                f"aggregation.pre={list(settings.pre)} with the caller's own rule, which is taken "
                "as it is; leave it out and give the composition, such as NNM(f=1) >> rule"
            )
        return
    rule = options.rule(settings.model_copy(update={"f": f}))
    if f > (largest := rule.breakdown(n)):
        allowed = f"the largest allowed is {largest}"
        if largest < 0:
            allowed = "it is not defined for so few, whatever f is"
        rows = rule.pre.rows(n) if isinstance(rule, Mixed) else n
        counted = f"{n} clients" if rows == n else f"{rows} rows made of {n} clients"
        named = " >> ".join((*(settings.pre or ()), settings.rule))
        raise ValueError(
            f"{key}={f} is too many for aggregation.rule={named!r} with {counted} to aggregate; "
            f"{allowed}"
        )
    try:
        rule.check(n)
    except ValueError as error:
        raise ValueError(f"aggregation.rule={settings.rule!r}: {error}") from error
    weights_fit(config, rule)


def _weights(config: Config) -> None:
    """Weights by size need a server that combines whole messages, and noise that does not mind."""
    weights, cap = config.aggregation.weights, config.aggregation.weight_cap
    if weights == "equal" and cap is not None:
        raise ValueError(
            f"aggregation.weight_cap={cap:g}: all clients weigh the same and nothing is capped; "
            "leave it out or choose aggregation.weights='sizes'"
        )
    if weights != "sizes":
        return
    if config.algorithm.name == "peer-to-peer":
        raise ValueError(
            "aggregation.weights='sizes' with algorithm.name='peer-to-peer': no server weighs the "
            "nodes; allowed is aggregation.weights='equal'"
        )
    if config.privacy is not None and config.privacy.trust != "local":
        why = {
            "central": "the server's noise is made for a share of 1/n",
            "distributed": "shared noise cancels where all weigh the same",
        }[config.privacy.trust]
        raise ValueError(
            f"aggregation.weights='sizes' with privacy.trust={config.privacy.trust!r}: {why}; "
            "allowed is aggregation.weights='equal', or privacy.trust='local'"
        )


def _root(config: Config) -> None:
    """A server with records of its own needs one trusted update per round, and a server."""
    from fedsieve.algorithms.central import Central

    size, rule = config.aggregation.root_records, config.aggregation.rule
    factory: Any = component("algorithm", config.algorithm.name).factory
    name = f"algorithm.name={config.algorithm.name!r}"
    if size and not issubclass(factory, Central):
        raise ValueError(
            f"aggregation.root_records={size} with {name}: no server is there to hold records; "
            "allowed is aggregation.root_records=0"
        )
    if rule is None or rule.startswith(CUSTOM):
        return
    if not options.rule(config.aggregation.model_copy(update={"f": 0})).needs_root:
        if size:
            raise ValueError(
                f"aggregation.root_records={size} with aggregation.rule={rule!r}: it looks at no "
                "records of the server's; leave it out, or choose a rule that does, such as "
                "'fltrust'"
            )
        return
    if not (issubclass(factory, Central) and factory.halves == 1):
        raise ValueError(
            f"aggregation.rule={rule!r} with {name}: it needs a server and messages of one vector; "
            "allowed are algorithms such as 'sieve', 'dshb' and 'fedavg'"
        )
    if not size:
        raise ValueError(
            f"aggregation.rule={rule!r} compares messages with an update that the server computes "
            "itself on a few clean records; needed is aggregation.root_records >= 1, such as 100"
        )


def weights_fit(config: Config, rule: Rule) -> None:
    """The rule hears weights by size, and keeps its majority whatever sizes f clients claim.

    Raises:
        ValueError: The rule hears none, or with the caps that are allowed.
    """
    from fedsieve.aggregation import Facts
    from fedsieve.aggregation.pre_aggregator import Mixed

    if config.aggregation.weights != "sizes":
        return
    if Facts.WEIGHTED not in rule.facts:
        raise ValueError(
            f"aggregation.weights='sizes': {rule!r} has no weighted variant; allowed is "
            "aggregation.weights='equal', or a rule of the package, all of which have one"
        )
    n, f, cap = config.federation.cohort, rule.f, config.aggregation.weight_cap
    rows, s = (rule.pre.rows(n), rule.pre.gathers) if isinstance(rule, Mixed) else (n, 1)
    if cap is None or not f or rule.breakdown(n) > (rows - 1) // 2:  # it needs no majority
        return
    limit = rule.weight_limit(n)
    if f * s * cap >= limit * n:
        what = "they may claim" if s == 1 else f"{f} rows made of {s} messages each may hold"
        raise ValueError(
            f"aggregation.weight_cap={cap:g} with f={f} of {n} messages: whatever these f clients "
            f"hold, {what} {min(f * s * cap / n, 1):.3g} of the weight; "
            f"allowed is 1 <= aggregation.weight_cap < {limit * n / (f * s):g}"
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
    if name != "none" and not name.startswith("custom:") and (use := _use_of_classes(name)):
        raise ValueError(
            f"attack.name={name!r}: data.name={config.data.name!r} is a regression and has no "
            f"classes to {use}; choose another attack"
        )
    if config.data.partition in ("dirichlet", "shards", "gamma", "extreme"):
        raise ValueError(
            f"data.partition={config.data.partition!r} sorts by class, and "
            f"data.name={config.data.name!r} is a regression; allowed is iid"
        )


def _use_of_classes(attack: str) -> str | None:
    """What the attack of this name does with classes, ``None`` if nothing."""
    from fedsieve.poisoning import Backdoor, DataAttack

    factory = component("attack", attack).factory
    uses: dict[type, str] = {DataAttack: "flip", Backdoor: "aim at"}
    kinds = factory.__mro__ if isinstance(factory, type) else ()
    return next((uses[kind] for kind in kinds if kind in uses), None)


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
