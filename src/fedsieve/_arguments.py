"""What the arguments of a component may be: one check for each kind, and one form of refusal.

The checks are called in ``__post_init__`` of a frozen dataclass, look at the field of that name,
and leave Python's own type in it: ``f=np.int64(1)`` and ``f=1`` make the same rule. A bool is no
number, and 3.0 no integer.
"""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import numpy as np


def integer(
    part: object, name: str, least: int = 0, most: int | None = None, *, none: str = ""
) -> None:
    """Refuse what is not an integer between two bounds.

    Args:
        part: A frozen dataclass under construction.
        name: The field.
        least: Smallest integer allowed.
        most: Largest integer allowed; ``None``: there is no bound.
        none: What ``None`` stands for, such as "to converge"; empty: ``None`` is refused.

    Raises:
        ValueError: With name, value and what is allowed.
    """
    value = getattr(part, name)
    if none and value is None:
        return
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not (whole and least <= int(value) and (most is None or int(value) <= most)):
        bounds = f">= {least}" if most is None else f"in {least}..{most}"
        raise ValueError(f"{name}={value!r} must be an integer {bounds}{_or(none)}")
    _keep(part, name, int(value))


def real(
    part: object,
    name: str,
    *,
    least: float = -math.inf,
    above: float = -math.inf,
    most: float = math.inf,
    none: str = "",
) -> None:
    """Refuse what is not a finite number in an interval.

    Args:
        part: A frozen dataclass under construction.
        name: The field.
        least: Smallest number allowed.
        above: The number that all allowed ones exceed; given instead of ``least``.
        most: Largest number allowed.
        none: What ``None`` stands for; empty: ``None`` is refused.

    Raises:
        ValueError: With name, value and what is allowed.
    """
    value = getattr(part, name)
    if none and value is None:
        return
    number = as_real(value)
    if not (math.isfinite(number) and least <= number <= most and number > above):
        low = f"[{least:g}" if least > above else f"({above:g}"
        bound = f">= {least:g}" if least > above else f"> {above:g}"
        if most < math.inf:
            allowed = f"must lie in {low}, {most:g}]"
        else:
            allowed = "must be finite" + (f" and {bound}" if max(least, above) > -math.inf else "")
        raise ValueError(f"{name}={value!r} {allowed}{_or(none)}")
    _keep(part, name, number)


def choice(part: object, name: str, allowed: tuple[str, ...]) -> None:
    """Refuse what is not one of the words.

    Raises:
        ValueError: With name, value and the words.
    """
    value = getattr(part, name)
    if not (isinstance(value, str) and value in allowed):
        raise ValueError(f"{name}={value!r} is not one of {', '.join(allowed)}")


def flag(part: object, name: str) -> None:
    """Refuse what is neither true nor false.

    Raises:
        ValueError: With name and value.
    """
    value = getattr(part, name)
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name}={value!r} must be True or False")
    _keep(part, name, bool(value))


def instance(part: object, name: str, kind: type) -> None:
    """Refuse what is not an object of that class.

    Raises:
        ValueError: With name, value and the class.
    """
    value = getattr(part, name)
    if not isinstance(value, kind):
        raise ValueError(f"{name}={value!r} must be a {kind.__module__}.{kind.__qualname__}")


def as_real(value: Any) -> float:
    """A number as a float; NaN if it is none, or larger than a float can be."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


def _or(none: str) -> str:
    return f", or None {none}" if none else ""


def _keep(part: object, name: str, value: object) -> None:
    object.__setattr__(part, name, value)  # past the frozen dataclass, which is not finished yet
