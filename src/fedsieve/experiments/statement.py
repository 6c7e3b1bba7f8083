"""What a run may claim about privacy and robustness, in words; and its figures, readable.

No epsilon is ever printed without its unit, neighbouring relation, delta, sampling assumption and
accountant: these sentences and `spent` are the only places where a run's epsilon becomes text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import ROUND_CEILING, Context, Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedsieve.privacy import Guarantee


def privacy(summary: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """The privacy statement: what holds, under which assumptions, and what it does not cover.

    Args:
        summary: summary.json.
        config: config.toml as nested values.

    Returns:
        Paragraphs.
    """
    if summary.get("epsilon") is None:
        nothing = (
            "No differential privacy: this run added no noise, and no epsilon can be stated. "
            "Whoever sees the messages may learn about single records."
        )
        return [nothing]
    from fedsieve.privacy.guarantee import NEIGHBOURS

    unit, trust = summary["privacy_unit"], summary.get("trust") or "local"
    changed = NEIGHBOURS[summary["neighbouring_relation"]].format(unit=unit)
    what = "The server's aggregates" if trust == "central" else "Every honest client's messages"
    holds = (
        f"{what} are ({epsilon(summary['epsilon'])}, "
        f"{summary['delta']:.3g})-differentially private against {_against(summary)}. Unit: "
        f"{UNITS[unit]}. Neighbouring data sets ({summary['neighbouring_relation']}): {changed}. "
        f"{FIXED[unit]} Epsilon is the largest over the clients, for the whole run."
    )
    assumes = (
        f"{_sampling(unit, config)} Mechanism: {_clipped(unit, config)}; {_noised(trust, config)}; "
        f"noise multiplier {summary['noise_multiplier']:.4g}. "
        f"Accountant: {summary['accountant']}. "
        f"Source of noise and draws: {summary['noise_source']}."
    )
    covers = _covers(unit, trust)
    seeded = _seeded(str(summary["noise_source"]))
    return [holds, assumes, *_exact(config), covers, *_rooted(summary), *seeded]


UNITS = {
    "record": "one record of one client",
    "client": "one client, with everything that it holds",
}

FIXED = {
    "record": "The clients' nominal sizes are public: they fix the sampling rates, and neighbours "
    "share them.",
    "client": "Who takes part in which round is public, and neighbours share it: a client that is "
    "removed or empty contributes zero in its rounds.",
}
"""What neighbours have in common."""

CLIPPED = {
    "record": "each record's gradient is projected by a public map, clipped there{layers} and "
    "summed",
    "client": "each client's whole update is projected by a public map and clipped there{layers}",
}

NOISED = {
    "local": "each client {adds} noise of its own",
    "distributed": "each client {adds} noise, a large part of which it shares with the others, "
    "pair by pair, so that it cancels in their mean, and a small part of its own",
    "central": "the server {adds} noise to the sum of what the clients send",
}

ADDS = {
    "gaussian": "adds Gaussian",
    "discrete-gaussian": "rounds to a public lattice and adds discrete Gaussian",
    "skellam": "rounds to a public lattice and adds Skellam",
}
"""What is done, by ``privacy.noise``."""


def _clipped(unit: str, config: Mapping[str, Any]) -> str:
    layers = ""
    if (config.get("privacy") or {}).get("clipping") == "per-layer":
        layers = " layer by layer, the layers' clips adding up to the clip in quadrature,"
    return CLIPPED[unit].format(layers=layers)


def _noised(trust: str, config: Mapping[str, Any]) -> str:
    privacy = config.get("privacy") or {}
    text = NOISED[trust].format(adds=ADDS[privacy.get("noise", "gaussian")])
    quantile = privacy.get("clip_quantile")
    if quantile is None:
        return text
    return (
        f"{text}; the clip follows the {quantile:g} quantile of the norms by noisy counts, which "
        "are released too and paid for"
    )


def _sampling(unit: str, config: Mapping[str, Any]) -> str:
    if unit == "client":
        return (
            "Sampling: none is counted; every round in which a client takes part is one release in "
            "full, whoever chose it."
        )
    batch = config.get("algorithm", {}).get("batch")
    way = (config.get("privacy") or {}).get("sampling", "poisson")
    if way in EPOCHS:
        return EPOCHS[way].format(batch=f"{batch}" if batch else "b")
    expected = f", {batch} records expected per step" if batch else ""
    return (
        f"Sampling: independent (Poisson) inclusion of each record in each step{expected}, the "
        "draws secret."
    )


EPOCHS = {
    "shuffled": "Sampling: shuffled batches of {batch} records, cut from a secret permutation in "
    "each epoch; those that fill no batch are left out of the epoch. A record takes part at most "
    "once in an epoch, an epoch that has begun counts whole, and no amplification is counted: the "
    "statement holds even if the permutations are known.",
    "random-allocation": "Sampling: random allocation of each record to one step of an epoch, "
    "uniformly and independently, with at least {batch} records expected per step and the draws "
    "secret. An epoch that has begun counts whole.",
}


def _covers(unit: str, trust: str) -> str:
    protects = {
        "local": "against everybody who sees the messages, the server and malicious clients "
        "included.",
        "distributed": "against the server and malicious clients together, as long as no more "
        "clients than named reveal what they share with others, or leave their noise out.",
        "central": "against everybody who sees the models, malicious clients included, but not "
        "against the server nor anybody who reads what the clients send to it.",
    }[trust]
    hides = {
        "record": "that a client takes part, how much data it holds, or what is true of all its "
        "records together",
        "client": "that a client takes part, or what is true of many clients together",
    }[unit]
    return (
        f"It protects single {unit}s {protects} It does not hide {hides}; and it says nothing "
        "about the data of malicious clients. The test figures and the norms shown here come from "
        "the simulator's own look at the data and are not part of what was released."
    )


def _against(summary: Mapping[str, Any]) -> str:
    """Against whom; runs from before there was a choice were of local trust."""
    return str(
        summary.get("holds_against") or "everybody who sees the messages, the server included"
    )


def _exact(config: Mapping[str, Any]) -> list[str]:
    """What integer noise adds to the statement, and what it does not."""
    if (config.get("privacy") or {}).get("noise", "gaussian") == "gaussian":
        return []
    safe = (
        "Floating point: noise is drawn from its exact law and added to integers, and everything "
        "sent is computed from these integers, so rounding tells nothing of what the noise hides. "
        "Before that, gradients are computed in float32 and added up in float32 (up to 90 records "
        "of a client) or float64 (more); the lattice allows 2^-10 of the clip for the rounding of "
        "their sum."
    )
    return [safe]


def _rooted(summary: Mapping[str, Any]) -> list[str]:
    """What does not hold for records that no client holds."""
    if (records := summary.get("root_records")) is None:
        return []
    left = (
        f"It does not protect the server's own {records} root records: they are taken as public, "
        "and no client holds one of them."
    )
    return [left]


def _seeded(source: str) -> list[str]:
    if "seed" not in source:
        return []
    warning = (
        f"Noise and batches were drawn from a {source}: who knows the seed knows who joined each "
        "batch and can subtract the noise. This is for repeatable simulations, never for real data."
    )
    return [warning]


def privacy_line(summary: Mapping[str, Any]) -> str:
    """The statement in one line."""
    if summary.get("epsilon") is None:
        return "none (no differential privacy)"
    return (
        f"epsilon {epsilon(summary['epsilon'])} at delta {summary['delta']:.3g}, per "
        f"{summary['privacy_unit']} ({summary['neighbouring_relation']}), {sampling(summary)}, "
        f"{summary['accountant']}, against {_against(summary)}; noise from "
        f"{summary['noise_source']}"
    )


def sampling(summary: Mapping[str, Any]) -> str:
    """What the epsilon of a summary takes for granted about sampling."""
    if summary["privacy_unit"] == "client":
        return BRIEFLY["none"]
    return BRIEFLY[summary.get("sampling") or "Poisson"]


BRIEFLY = {
    "none": "no sampling",
    "Poisson": "Poisson sampling",
    "shuffled": "shuffled batches",
    "random-allocation": "random allocation",
}
"""How an epsilon's sampling assumption is told in a few words, by its name in summaries."""


def terms(guarantee: Guarantee) -> dict[str, str | float]:
    """What an epsilon needs beside it, under the keys of summary.json and "sampling"."""
    return {
        "delta": guarantee.delta,
        "privacy_unit": guarantee.unit,
        "neighbouring_relation": guarantee.relation,
        "sampling": named_sampling(guarantee),
        "accountant": guarantee.accountant,
    }


def named_sampling(guarantee: Guarantee) -> str:
    """The sampling assumption in a word: a key of `BRIEFLY`."""
    for kind in guarantee.kinds:
        if kind != "poisson":
            return kind
    return "Poisson" if guarantee.sampling_rate < 1 else "none"


def spent(row: Mapping[str, Any]) -> str:
    """The epsilon of a round with its `terms`, short enough for a line of 80 columns.

    Example:
        >>> spent({"epsilon": 3.2, "delta": 1e-5, "privacy_unit": "record", "accountant": "PLD (x)",
        ...        "neighbouring_relation": "add-remove", "sampling": "Poisson"})
        'epsilon 3.2 (delta 1e-05, record, add-remove, Poisson sampling, PLD)'
    """
    return f"epsilon {epsilon(row['epsilon'])} ({short(row)})"


def drawn(summary: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """The terms that stand beside a curve of epsilon; empty for a run without privacy.

    Args:
        summary: summary.json; empty while the run goes on.
        config: config.toml as nested values.
    """
    privacy = config.get("privacy")
    if not privacy:
        return ""
    return "epsilon: " + short(
        {
            "delta": privacy["delta"],
            "privacy_unit": privacy.get("unit", "record"),
            "neighbouring_relation": privacy["relation"],
            "sampling": _drawn_by(privacy),
            "accountant": summary.get("accountant", "run not finished"),
        }
    )


def _drawn_by(privacy: Mapping[str, Any]) -> str:
    if privacy.get("unit") == "client":
        return "none"
    way = str(privacy.get("sampling", "poisson"))
    return "Poisson" if way == "poisson" else way


def short(terms: Mapping[str, Any]) -> str:
    """The `terms` in a few words.

    Example:
        >>> short({"delta": 1e-5, "privacy_unit": "record", "accountant": "PLD (dp-accounting)",
        ...        "neighbouring_relation": "add-remove", "sampling": "Poisson"})
        'delta 1e-05, record, add-remove, Poisson sampling, PLD'
    """
    accountant = str(terms["accountant"]).partition(" (")[0]
    return (
        f"delta {terms['delta']:.3g}, {terms['privacy_unit']}, {terms['neighbouring_relation']}, "
        f"{BRIEFLY[str(terms['sampling'])]}, {accountant}"
    )


def rows(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values of the summary as a reader wants them, in reading order."""
    honest = summary["n_clients"] - summary["n_byzantine"]
    d, k = summary["dimension"], summary["message_dimension"]
    return [
        ("algorithm", summary["algorithm"]),
        ("data", summary["dataset"]),
        ("model", f"{summary['model']}, {d:,} parameters"),
        ("clients", f"{honest} honest, {summary['n_byzantine']} malicious"),
        ("attack", summary["attack"]),
        ("rule", summary["rule"] or "none"),
        *_server(summary),
        ("projection", f"{summary['projection']}, {k:,} of {d:,} numbers"),
        ("rounds", f"{summary['rounds']:,}"),
        ("test accuracy", percent(summary["test_accuracy"])),
        ("test loss", number(summary["test_loss"])),
        *_backdoor(summary),
        ("privacy", privacy_line(summary)),
        ("up per client and round", size(summary["uplink_bits_per_client_round"])),
        ("down per client and round", size(summary["downlink_bits_per_client_round"])),
        ("time", f"{summary['seconds_total']:.1f} s"),
        ("peak memory", size(summary["peak_memory_bytes"], per=1)),
        ("seed", str(summary["seed"])),
    ]


def _server(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the server holds itself; nothing where it holds nothing."""
    records = summary.get("root_records")
    return [] if records is None else [("root records", f"{records:,} at the server, public")]


def _backdoor(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Its success, and how long it lived; nothing for a run without a backdoor."""
    success, life = summary.get("attack_success_rate"), summary.get("backdoor_half_life")
    told = [] if success is None else [("attack success rate", percent(success))]
    return told if life is None else [*told, ("backdoor half-life", f"{life} rounds")]


def percent(value: float | None) -> str:
    """A share, or a dash."""
    return "-" if value is None else f"{value:.1%}"


def epsilon(value: float | None) -> str:
    """Four digits, rounded up: a bound must not shrink on paper.

    Example:
        >>> epsilon(3.99941), epsilon(1.2341), epsilon(4.0), epsilon(math.inf), epsilon(None)
        ('4', '1.235', '4', 'infinite', '-')
    """
    if value is None or value <= 0:
        return "-" if value is None else "0"
    if not math.isfinite(value):
        return "infinite"
    nearly = Decimal(value) * (1 - Decimal("1e-12"))  # 0.1 is a little more than a tenth
    return f"{float(Context(4, ROUND_CEILING).create_decimal(nearly)):.4g}"


def number(value: float | None) -> str:
    """Four digits, or a dash."""
    return "-" if value is None else f"{value:.4g}"


def size(amount: float | None, per: int = 8) -> str:
    """Bits (or bytes, with ``per=1``) in a unit that keeps the figure short.

    Example:
        >>> size(64_000), size(8 * 999_600), size(None)
        ('8 kB', '1 MB', '-')
    """
    if amount is None:
        return "-"
    value = amount / per
    for unit in ("B", "kB", "MB"):
        if value < 999.5:  # above, three digits are 1e+03
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} GB"
