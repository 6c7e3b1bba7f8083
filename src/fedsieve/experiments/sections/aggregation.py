"""Against malicious clients: how the server combines the messages."""

from __future__ import annotations

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
