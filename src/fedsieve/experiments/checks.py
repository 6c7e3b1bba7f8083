"""Combinations of settings that cannot be run; every message gives key, value and what is allowed.

What the configuration alone decides is checked when a `Config` is made (`combination`); what needs
the data or the model is checked by `fits_data` and `fits_model` before the first round.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from fedsieve.aggregation import PreAggregator, Rule
from fedsieve.experiments import options
from fedsieve.registry import component

if TYPE_CHECKING:
    from fedsieve.experiments.config import Attack, Config, Privacy
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
    reads = attack_settings(attack)
    for key, field in type(attack).model_fields.items():
        if key not in reads and (value := getattr(attack, key)) != field.default:
            has = ", ".join(sorted(reads - {"name"})) or "none"
            raise ValueError(
                f"attack.{key}={value!r}: attack.name={attack.name!r} has no such setting; "
                f"leave it out (it has {has})"
            )


def attack_settings(attack: Attack) -> set[str]:
    """The settings that the attack reads, those of its trigger and its backdoor included."""
    if attack.name == "none":
        return {"name"}
    reads = {"name", "start", "stop"}
    if attack.name.startswith("custom:"):
        return reads
    parameters = {*inspect.signature(component("attack", attack.name).factory).parameters}
    if "backdoor" in parameters:
        inner = component("attack", attack.backdoor or "badnets").factory
        parameters |= {*inspect.signature(inner).parameters}
    if "trigger" in parameters:
        parameters |= {"size", "position"}
    return reads | parameters & set(type(attack).model_fields)


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
    rows, counted = n, f"{n} clients"
    for part in options.named(config.aggregation):
        role = f"aggregation.{options.FAMILIES[part.family]}={part.name!r}"
        built: Rule | PreAggregator = options.made(part, config.aggregation, f)
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
    if config.attack.name == "label-flip":
        raise ValueError(
            f"attack.name='label-flip': data.name={config.data.name!r} is a regression and has no "
            "classes to flip; choose another attack"
        )
    if config.data.partition in ("dirichlet", "shards", "gamma", "extreme"):
        raise ValueError(
            f"data.partition={config.data.partition!r} sorts by class, and "
            f"data.name={config.data.name!r} is a regression; allowed is iid"
        )


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
