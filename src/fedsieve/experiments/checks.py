"""Combinations of settings that cannot be run; every message gives key, value and what is allowed.

What the configuration alone decides is checked when a `Config` is made (`combination`); what needs
the data or the model is checked by `fits_data` and `fits_model` before the first round.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from fedsieve.experiments import attacks, options
from fedsieve.registry import component

if TYPE_CHECKING:
    from fedsieve.experiments.config import Config, Privacy
    from fedsieve.experiments.resolve import Facts
    from fedsieve.poisoning import Attack

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
        _protection(config)
        _codec(config)
        _local_records_only(config.privacy)
        _clip(config, config.privacy)
    _integers(config)
    options.check(config.aggregation)
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
    if attack.name.startswith("custom:"):
        return
    own = attacks.settings(attack)
    general = ["name", "knowledge"] + (["start", "stop"] if attack.name != "none" else [])
    for key, field in type(attack).model_fields.items():
        if key not in own + general and (value := getattr(attack, key)) != field.default:
            has = f" (it has {', '.join(own)})" if own else ""
            raise ValueError(
                f"attack.{key}={value!r}: attack.name={attack.name!r} has no such setting; "
                f"leave it out{has}"
            )
    if (made := attacks.attack(config)) is not None:
        attack_may(config, made)


def attack_may(config: Config, attack: Attack) -> None:
    """Refuse an attack that needs to know what the configuration denies it.

    Raises:
        ValueError: With what the attack needs and what it is granted.
    """
    from fedsieve.poisoning import Knowledge  # only now: torch loads slowly

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
    spare = {
        "strength": "a fixed strength spares the rule",
        "partial": "partial=true the updates",
        "norm": "a fixed norm spares the updates",
    }
    return ", ".join(text for key, text in spare.items() if key in known) or "it has none"


def _protection(config: Config) -> None:
    """The algorithm's messages, and the rule, are made for this unit and this trust."""
    from fedsieve.algorithms.form import Algorithm  # only now: torch loads slowly
    from fedsieve.algorithms.trust import listed

    privacy, name = config.privacy, config.algorithm.name
    assert privacy is not None
    offers = getattr(component("algorithm", name).factory, "offers", Algorithm.offers)
    if (privacy.unit, privacy.trust) not in offers:
        raise ValueError(
            f"privacy.unit={privacy.unit!r} with privacy.trust={privacy.trust!r}: "
            f"algorithm.name={name!r} offers {listed(offers)}; 'dshb' and 'sieve' offer everything"
        )
    if privacy.trust == "distributed":
        _colluders(config, privacy)
    elif privacy.colluders is not None:
        raise ValueError(
            f"privacy.colluders={privacy.colluders} with privacy.trust={privacy.trust!r}: nobody "
            "shares noise with anybody; leave it out or choose privacy.trust='distributed'"
        )
    if privacy.trust == "central":
        _linear(config, privacy)


def _colluders(config: Config, privacy: Privacy) -> None:
    byzantine, cohort = config.federation.byzantine, config.federation.cohort
    f, key = privacy.colluders, "privacy.colluders"
    if f is None:
        f, key = byzantine, "federation.byzantine"
    if f < byzantine:
        raise ValueError(
            f"privacy.colluders={f} is less than federation.byzantine={byzantine}: a malicious "
            f"client knows the noise that it shares; allowed is >= {byzantine}"
        )
    if f > cohort - 2:
        allowed = f"allowed are 0..{cohort - 2}" if cohort >= 2 else "no number is allowed"
        raise ValueError(
            f"{key}={f} with privacy.trust='distributed' and cohorts of {cohort}: two clients at "
            f"least must share noise that nobody else knows; {allowed}"
        )


def _linear(config: Config, privacy: Privacy) -> None:
    aggregation = config.aggregation
    for key, value in (("rule", aggregation.rule), ("pre", aggregation.pre or None)):
        if value is not None and (key, value) != ("rule", "mean"):
            shown = list(value) if isinstance(value, tuple) else value
            raise ValueError(
                f"aggregation.{key}={shown!r} with privacy.trust='central': it is not linear, one "
                "client's vector may come out of it as a whole, and the server's noise is made for "
                "a share of 1/n; allowed is aggregation.rule='mean' alone, or "
                "privacy.trust='distributed' or 'local'"
            )
    name = config.codec.name
    if name == "none" or privacy.unit == "client":  # the server clips once more
        return
    if not component("codec", name).build().lossless:
        raise ValueError(
            f"codec.name={name!r} with privacy.trust='central' and privacy.unit='record': the "
            "clients would code before the server's noise, and rounding makes the sums more "
            "sensitive than the noise is for; allowed are codes without loss"
        )


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


def _local_records_only(privacy: Privacy) -> None:
    """Refuse what is made for records, or for noise of each client's own, where that is not so.

    Layers may be clipped apart whoever adds the noise.
    """
    made_for = {"unit": "record", "trust": "local"}
    made: list[tuple[str, str, dict[str, str]]] = []  # setting, what else, key -> why
    if privacy.noise != "gaussian":
        why = {
            "unit": "its lattice is planned for sums of records",
            "trust": "its lattice is planned for noise that is a client's own and does not cancel",
        }
        made.append((f"noise={privacy.noise!r}", "privacy.noise='gaussian'", why))
    if privacy.clip_quantile is not None:
        why = {
            "unit": "what is counted are the norms of records",
            "trust": "each client has to noise its own counts, and the noise of its message with "
            "them makes up epsilon",
        }
        made.append((f"clip_quantile={privacy.clip_quantile}", "a fixed clip", why))
    if privacy.clipping == "per-layer":
        why = {"unit": "a client's update is clipped as a whole"}
        made.append(("clipping='per-layer'", "privacy.clipping='flat' or 'automatic'", why))
    for setting, instead, why in made:
        for key, reason in why.items():
            if (value := getattr(privacy, key)) != made_for[key]:
                raise ValueError(
                    f"privacy.{setting} with privacy.{key}={value!r}: {reason}; allowed is "
                    f"privacy.{key}={made_for[key]!r}, or {instead}"
                )


def _clip(config: Config, privacy: Privacy) -> None:
    """Settings of the clip go with the clipping that they are settings of."""
    if privacy.clip_split != "equal" and privacy.clipping != "per-layer":
        raise ValueError(
            f"privacy.clip_split={privacy.clip_split!r} with privacy.clipping="
            f"{privacy.clipping!r}: nothing is split; use privacy.clipping='per-layer'"
        )
    if privacy.clip_quantile is None:
        for key in ("clip_rate", "clip_noise"):
            if getattr(privacy, key) != type(privacy).model_fields[key].default:
                raise ValueError(
                    f"privacy.{key}={getattr(privacy, key)} without privacy.clip_quantile: the "
                    "clip stays where it is; give privacy.clip_quantile, such as 0.5"
                )
        return
    given = f"privacy.clip_quantile={privacy.clip_quantile}"
    if privacy.noise != "gaussian":
        raise ValueError(
            f"{given} with privacy.noise={privacy.noise!r}: the lattice is planned once, for one "
            "clip; allowed is privacy.noise='gaussian', or a fixed clip"
        )
    if not _one_gradient(config):
        raise ValueError(
            f"{given} with algorithm.name={config.algorithm.name!r}: the clip moves between rounds "
            "of one gradient each; allowed are algorithm.name='sieve' and 'dshb'"
        )


def _integers(config: Config) -> None:
    """The codec of integers needs messages that are integers."""
    if config.codec.name != "integers":
        return
    noise = None if config.privacy is None else config.privacy.noise
    if noise in (None, "gaussian"):
        raise ValueError(
            f"codec.name='integers' with {'no [privacy]' if noise is None else 'privacy.noise='}"
            f"{'' if noise is None else repr(noise)}: the messages are no integers; use "
            "privacy.noise='discrete-gaussian' or 'skellam', or codec.name='raw32'"
        )
    if not _one_gradient(config):
        raise ValueError(
            f"codec.name='integers' with algorithm.name={config.algorithm.name!r}: its messages "
            "are computed from several noisy integers and are none themselves; allowed are "
            "algorithm.name='sieve' and 'dshb', or codec.name='raw32', which costs no privacy"
        )
    if config.algorithm.momentum:
        raise ValueError(
            f"codec.name='integers' with algorithm.momentum={config.algorithm.momentum}: a "
            "client's momentum of noisy integers is no integer; allowed is algorithm.momentum=0.0, "
            "or codec.name='raw32', which costs no privacy"
        )


def _one_gradient(config: Config) -> bool:
    factory = component("algorithm", config.algorithm.name).factory
    return bool(getattr(factory, "one_gradient", False))


def rule_withstands(config: Config) -> None:
    """The rule, and each pre-aggregator, is defined for f malicious messages among the cohort."""
    n, byzantine, f = voters(config), config.federation.byzantine, config.aggregation.f
    key = "federation.byzantine" if f is None or f == byzantine else "aggregation.f"
    f = assumed_f(config) if f is None else f
    from fedsieve.aggregation import PreAggregator

    rows, counted = n, f"{n} clients"
    for part in options.named(config.aggregation):
        role = f"aggregation.{options.FAMILIES[part.family]}={part.name!r}"
        built = options.made(part, config.aggregation, f)
        if f > (largest := built.breakdown(rows)):
            allowed = f"the largest allowed is {largest}"
            if largest < 0:
                allowed = "it is not defined for so few, whatever f is"
            raise ValueError(
                f"{key}={f} is too many for {role} with {counted} to aggregate; {allowed}"
            )
        try:
            built.check(rows)
        except ValueError as error:
            raise ValueError(f"{role}: {error}") from error
        if isinstance(built, PreAggregator):
            rows = built.rows(rows)
            counted = f"{n} clients" if rows == n else f"{rows} rows made of {n} clients"


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
    from fedsieve.poisoning import DataAttack

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
