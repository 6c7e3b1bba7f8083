"""From a Renyi curve to epsilon."""

from __future__ import annotations

from collections.abc import Callable

from fedsieve.privacy.guarantee import check_target

ORDERS = (
    *(1 + i / 16 for i in range(1, 48)),
    *range(4, 65),
    *(2.0 ** (i / 2) for i in range(13, 37)),
)


def epsilon_of(rdp: Callable[[float], float], delta: float, steps: int) -> float:
    """Epsilon of so many releases with this Renyi curve each (dp-accounting's conversion).

    Raises:
        ValueError: delta outside (0, 1), or ``steps`` < 1.
    """
    from dp_accounting.rdp import compute_epsilon  # it takes about a second

    check_target(delta, "add-remove")
    if steps != int(steps) or steps < 1:
        raise ValueError(f"steps={steps} must be an integer >= 1")
    return float(compute_epsilon(ORDERS, [steps * rdp(order) for order in ORDERS], delta)[0])
