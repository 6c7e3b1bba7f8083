"""Digits of privacy figures, which are never rounded to the side of too little."""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Context, Decimal


def shown(value: float, rounding: str = ROUND_HALF_EVEN) -> str:
    """Six digits, or as many as tell a number below 1 from 1; fewer if they are the number.

    Args:
        value: Finite.
        rounding: Of `decimal`: up for noise that must suffice, down for a rate that must not do
            more.

    Example:
        >>> shown(0.95931264), shown(1 - 2e-12), shown(256 / 60000, "ROUND_FLOOR")
        ('0.959313', '0.999999999998', '0.00426666')
        >>> shown(1.1, "ROUND_CEILING")  # although the float64 is a little more
        '1.1'
    """
    digits = 6
    if float(given := f"{value:.{digits}g}") == value:
        return given
    while (text := Context(digits, rounding).create_decimal(value)) == 1 != value and digits < 17:
        digits += 1
    return f"{float(text):.{digits}g}"


def rounded_up(epsilon: float) -> str:
    """Four decimals, or four digits of a small or a huge one, never less than the number itself.

    Example:
        >>> rounded_up(4.37715), rounded_up(4.0), rounded_up(1.23456e-7), rounded_up(0.0)
        ('4.3772', '4.0000', '1.235e-07', '0.0000')
    """
    if not math.isfinite(epsilon):
        return "infinite"
    exact = Decimal(epsilon)
    small = 0 < epsilon < 1e-3 or epsilon >= 1e9
    places = Decimal(1).scaleb(exact.adjusted() - 3 if small else -4)
    up = exact.quantize(places, context=Context(prec=400, rounding=ROUND_CEILING))
    return f"{float(up):.3e}" if small else f"{up:.4f}"
