"""What a run may claim about privacy and robustness, in words; and its figures, readable.

No epsilon is ever printed without its unit, neighbouring relation, delta, sampling assumption and
accountant: these sentences are the only place where a report or the command line prints one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

RELATIONS = {
    "add-remove": "one {unit} is added or removed",
    "replace-one": "one {unit} is replaced by another",
    "zero-out": "one {unit} is replaced by an empty one",
}


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
    unit = summary["privacy_unit"]
    changed = RELATIONS[summary["neighbouring_relation"]].format(unit=unit)
    batch = config.get("algorithm", {}).get("batch")
    expected = f", {batch} {unit}s expected per step" if batch else ""
    holds = (
        f"Every honest client's messages are ({epsilon(summary['epsilon'])}, "
        f"{summary['delta']:.3g})-differentially private. Unit: one {unit} of one client. "
        f"Neighbouring data sets ({summary['neighbouring_relation']}): {changed}. "
        "The clients' nominal sizes are public: they fix the sampling rates, and neighbours share "
        "them. "
        "Epsilon is the largest over the clients, for the whole run."
    )
    assumes = (
        f"Sampling: independent (Poisson) inclusion of each {unit} in each step{expected}, the "
        f"draws secret. Mechanism: each {unit}'s gradient is projected by a public map, clipped "
        "there, summed, and Gaussian noise is added, with noise multiplier "
        f"{summary['noise_multiplier']:.4g}. Accountant: {summary['accountant']}. "
        f"Source of noise and draws: {summary['noise_source']}."
    )
    covers = (
        f"It protects single {unit}s against everybody who sees the messages, the server and "
        "malicious clients included. It does not hide that a client takes part, how much data it "
        "holds, or what is true of all its records together; and it says nothing about the data "
        "of malicious clients. The test figures and the norms shown here come from the simulator's "
        "own look at the data and are not part of what was released."
    )
    return [holds, assumes, covers, *_seeded(str(summary["noise_source"]))]


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
        f"{summary['privacy_unit']} ({summary['neighbouring_relation']}), Poisson sampling, "
        f"{summary['accountant']}; noise from {summary['noise_source']}"
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
        >>> epsilon(3.99941), epsilon(1.2341), epsilon(4.0), epsilon(None)
        ('4', '1.235', '4', '-')
    """
    if value is None or value <= 0:
        return "-" if value is None else "0"
    step = 10.0 ** (math.floor(math.log10(value)) - 3)
    return f"{math.ceil(value / step * (1 - 1e-12)) * step:.4g}"


def number(value: float | None) -> str:
    """Four digits, or a dash."""
    return "-" if value is None else f"{value:.4g}"


def size(amount: float | None, per: int = 8) -> str:
    """Bits (or bytes, with ``per=1``) in a unit that keeps the figure short.

    Example:
        >>> size(64_000), size(None)
        ('8 kB', '-')
    """
    if amount is None:
        return "-"
    value = amount / per
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} GB"
