"""Where a decreasing function gets below a bound: over real numbers by secants, over integers."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable


def least_feasible(
    excess: Callable[[float], float], start: float, width: float, tolerance: float
) -> tuple[float, float]:
    """Smallest x, up to the tolerance from above, with excess(x) <= 0, and the slope there.

    ``excess`` decreases; the search leaves the start in steps of the width, each twice the last.
    """
    low = high = start
    at_low = at_high = excess(start)
    while at_high > 0:
        low, at_low = high, at_high
        high, width = high + width, 2 * width
        at_high = excess(high)
    while at_low <= 0:
        high, at_high = low, at_low
        low, width = low - width, 2 * width
        at_low = excess(low)
    while high - low > tolerance:
        # the secant, aimed a little past the root so that both ends close in
        share = at_low / (at_low - at_high) if math.isfinite(at_low) else 0.5
        guess = low + (high - low) * share + 0.4 * tolerance
        guess = min(max(guess, low + 0.4 * tolerance), high - 0.4 * tolerance)
        if (value := excess(guess)) > 0:
            low, at_low = guess, value
        else:
            high, at_high = guess, value
    return high, (at_high - at_low) / (high - low) if math.isfinite(at_low) else -1.0


def largest(fits: Callable[[int], bool], low: int, most: int) -> int:
    """The largest n from low to most with ``fits(n)``, which holds at low and ends somewhere."""
    reach = 1
    while low + reach <= most and fits(low + reach):
        low, reach = low + reach, 2 * reach
    end = min(low + reach, most + 1)
    return bisect.bisect_left(range(end), True, lo=low + 1, key=lambda n: not fits(n)) - 1
