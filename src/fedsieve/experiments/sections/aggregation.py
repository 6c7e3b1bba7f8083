"""Against malicious clients: how the server combines the messages."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from fedsieve.experiments.words import PreAggregators, RuleName, Section


class Aggregation(Section):
    """How the server combines the messages.

    Further arguments of the rule and of the pre-aggregators, such as ``tau`` of centered-clipping,
    are further keys; `fedsieve.experiments.options` checks them.
    """

    model_config = ConfigDict(extra="allow")

    rule: RuleName | None = Field(
        default=None,
        description="rule; `fedsieve list rule`; its arguments, such as tau, are keys here too",
    )
    pre: PreAggregators | None = Field(
        default=None, description='pre-aggregators before the rule, such as ["nnm"]'
    )
    f: int | None = Field(
        default=None,
        ge=0,
        description="malicious messages per round that the rule withstands; "
        "default: federation.byzantine",
    )
    weights: Literal["equal", "sizes"] | None = Field(
        default=None,
        description='"sizes": clients weigh by their public numbers of records, up to the cap; '
        "default: equal, but sizes under FedAvg's plain mean without privacy",
    )
    weight_cap: float | None = Field(
        default=None,
        ge=1,
        allow_inf_nan=False,
        description="largest weight of a client by size, as a multiple of the equal weight; the "
        "others get what it exceeds; default: 2, but no bound for FedAvg's own weights",
    )
    root_records: int = Field(
        default=0,
        ge=0,
        description="training records that the server keeps for itself and no client holds; "
        "fltrust trusts the update computed on them",
    )
