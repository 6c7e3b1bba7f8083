"""Settings of ``[privacy]`` that cannot be run together, or with the rest; see `checks`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedsieve.experiments.words import CUSTOM
from fedsieve.registry import component

if TYPE_CHECKING:
    from fedsieve.aggregation import Rule
    from fedsieve.experiments.config import Config
    from fedsieve.experiments.sections.privacy import Privacy

NOT_PRIVATE = {
    "byrd-saga": "each released difference of table entries is a new query on the same records",
}
"""Algorithms whose messages the mechanism here does not cover, and why."""


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
        _sampling(config.privacy)
    _integers(config)


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
    rule, pre = config.aggregation.rule, config.aggregation.pre
    if rule not in (None, "mean") and not rule.startswith(CUSTOM):  # an object is asked itself
        raise ValueError(_not_linear(f"aggregation.rule={rule!r}"))
    if pre:
        raise ValueError(_not_linear(f"aggregation.pre={list(pre)!r}"))
    name = config.codec.name
    if name == "none" or privacy.unit == "client":  # the server clips once more
        return
    if not component("codec", name).build().lossless:
        raise ValueError(
            f"codec.name={name!r} with privacy.trust='central' and privacy.unit='record': the "
            "clients would code before the server's noise, and rounding makes the sums more "
            "sensitive than the noise is for; allowed are codes without loss"
        )


def rule_fits(config: Config, rule: Rule) -> None:
    """Refuse a rule of the caller's that the server's noise is not made for.

    Raises:
        ValueError: It is not the mean itself: what a subclass computes is not known.
    """
    from fedsieve.aggregation import Mean

    if config.privacy is not None and config.privacy.trust == "central" and type(rule) is not Mean:
        raise ValueError(_not_linear(f"rule={rule!r}"))


def _not_linear(what: str) -> str:
    return (
        f"{what} with privacy.trust='central': it is not known to be linear, one client's vector "
        "may come out of it as a whole, and the server's noise is made for a share of 1/n; allowed "
        "is aggregation.rule='mean' alone, or rule=fedsieve.aggregation.Mean() as an object, or "
        "privacy.trust='distributed' or 'local'"
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


def _sampling(privacy: Privacy) -> None:
    """Epochs are of records, under noise that is the same in all their steps."""
    if privacy.sampling == "poisson":
        return
    given = f"privacy.sampling={privacy.sampling!r} with privacy"
    if privacy.unit != "record":
        raise ValueError(
            f"{given}.unit={privacy.unit!r}: no sampling is counted there, every participation "
            "counts in full; leave it out, or choose privacy.unit='record'"
        )
    if privacy.trust == "distributed":
        raise ValueError(
            f"{given}.trust='distributed': an epoch is paid for when it begins, and the noise that "
            "hides a record in its later steps would follow who takes part in them; allowed are "
            "privacy.trust='local' and 'central', or privacy.sampling='poisson'"
        )
    if privacy.sampling == "shuffled" and privacy.relation == "add-remove":
        raise ValueError(
            f"{given}.relation='add-remove': batches have a fixed size, so one record more or less "
            "moves others from batch to batch and may change their number; allowed are "
            "privacy.relation='zero-out' and 'replace-one', or privacy.sampling='random-allocation'"
        )
    if privacy.sampling == "random-allocation" and privacy.noise != "gaussian":
        raise ValueError(
            f"{given}.noise={privacy.noise!r}: what removing a record costs is known for Gaussian "
            "noise only; allowed is privacy.noise='gaussian', or privacy.sampling='poisson' or "
            "'shuffled'"
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
