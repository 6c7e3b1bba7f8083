"""The figures of a run as a reader wants them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fedsieve.experiments import statement
from fedsieve.experiments.quality import QUALITY

if TYPE_CHECKING:
    from fedsieve.learning.data import Task


def rows(
    summary: Mapping[str, Any], task: Task = "classification", k: int | None = None
) -> list[tuple[str, str]]:
    """Names and values of the summary as a reader wants them, in reading order.

    Args:
        summary: The figures under the keys of summary.json.
        task: What the model predicts.
        k: Numbers in each vector of a message; by default it is one vector.
    """
    quality = QUALITY[task]
    honest = summary["n_clients"] - summary["n_byzantine"]
    return [
        ("algorithm", summary["algorithm"]),
        ("data", summary["dataset"]),
        ("model", f"{summary['model']}, {summary['dimension']:,} parameters"),
        ("clients", f"{honest} honest, {summary['n_byzantine']} malicious"),
        ("attack", summary["attack"]),
        ("rule", summary["rule"] or "none"),
        *_server(summary),
        ("projection", f"{summary['projection']}, {message(summary, k)}"),
        ("rounds", f"{summary['rounds']:,}"),
        (quality.full, quality.told(summary["test_accuracy"])),
        ("test loss", number(summary["test_loss"])),
        *_backdoor(summary),
        ("privacy", statement.privacy_line(summary)),
        ("up per client and round", size(summary["uplink_bits_per_client_round"])),
        ("down per client and round", size(summary["downlink_bits_per_client_round"])),
        ("time", f"{summary['seconds_total']:.1f} s"),
        ("peak memory", size(summary["peak_memory_bytes"], per=1)),
        ("seed", str(summary["seed"])),
    ]


def message(summary: Mapping[str, Any], k: int | None = None) -> str:
    """How many of the d numbers a message has; of each of its vectors, if those are several.

    Example:
        >>> held = {"message_dimension": 1300, "dimension": 650}
        >>> message(held, k=650), message(held | {"message_dimension": 65})
        ('2 vectors of 650 of 650 numbers', '65 of 650 numbers')
    """
    k = k or summary["message_dimension"]
    vectors = summary["message_dimension"] // k
    told = f"{k:,} of {summary['dimension']:,} numbers"
    return told if vectors == 1 else f"{vectors} vectors of {told}"


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
