"""What the sections of a configuration are made of: names of components, ranges, the section."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from fedsieve.registry import component

CUSTOM = "custom:"
"""Prefix of the name of an object that the caller passed to ``fedsieve.run`` himself."""

UNREGISTERED = {"attack": ("none",), "codec": ("none",)}
"""Names that stand for the absence of a component."""


def _known(family: str) -> Callable[[str], str]:
    def check(name: str) -> str:
        if name not in UNREGISTERED.get(family, ()) and not name.startswith(CUSTOM):
            component(family, name)
        return name

    return check


def _name_of(family: str) -> tuple[AfterValidator, Any]:
    return AfterValidator(_known(family)), Field(json_schema_extra={"family": family})


def listed(value: Any) -> Any:
    """A single value as a list of one."""
    return (value,) if isinstance(value, str | int) and not isinstance(value, bool) else value


def path_text(value: Any) -> Any:
    """A path object as text."""
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def share_or_count(value: int | float) -> int | float:
    """A fraction in (0, 1], or a whole number of clients above 1; 1 is the fraction, everybody.

    Raises:
        ValueError: Neither.
    """
    if isinstance(value, int):
        if value < 1:
            raise ValueError("allowed is a fraction in (0, 1], or a whole number of clients >= 2")
        return value if value > 1 else 1.0
    if not 0 < value <= 1:
        raise ValueError("allowed is a fraction in (0, 1], or a whole number of clients >= 2")
    return value


AlgorithmName = Annotated[str, *_name_of("algorithm")]
AttackName = Annotated[str, *_name_of("attack")]
CodecName = Annotated[str, *_name_of("codec")]
DatasetName = Annotated[str, *_name_of("dataset")]
ModelName = Annotated[str, *_name_of("model")]
PartitionName = Annotated[str, *_name_of("partition")]
PreAggregatorName = Annotated[str, *_name_of("pre-aggregator")]
ProjectionName = Annotated[str, *_name_of("projection")]
RuleName = Annotated[str, *_name_of("rule")]

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Strength = Annotated[float, Field(allow_inf_nan=False)]
Probability = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Widths = Annotated[tuple[Count, ...], Field(strict=False), BeforeValidator(listed)]
PreAggregators = Annotated[
    tuple[PreAggregatorName, ...], Field(strict=False), BeforeValidator(listed)
]


class Section(BaseModel):
    """What every section keeps: no unknown key, no silent conversion, no change afterwards."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
