"""How it is learned: algorithm, projection and code of a message."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fedsieve.experiments.words import (
    AlgorithmName,
    CodecName,
    Count,
    Positive,
    ProjectionName,
    Section,
)


class Algorithm(Section):
    """How it is trained."""

    name: AlgorithmName = Field(default="sieve", description="algorithm; `fedsieve list algorithm`")
    lr: Positive | None = Field(
        default=None, description="learning rate: of a local step, or else of the round"
    )
    server_lr: Positive | None = Field(
        default=None, description="learning rate of the server after local steps"
    )
    momentum: float | None = Field(default=None, ge=0, lt=1, description="momentum at the client")
    batch: Count | None = Field(
        default=None, description="records of a client per step; the expected number with privacy"
    )
    local_steps: Count | None = Field(default=None, description="local steps of a client per round")
    mixing: float | None = Field(
        default=None, gt=0, le=1, description="peer-to-peer: weight of the neighbourhood's average"
    )
    graph: Literal["ring", "complete"] | None = Field(
        default=None, description="peer-to-peer: who is whose neighbour"
    )


class Projection(Section):
    """The shared linear map R^d -> R^k; identity is R^d itself."""

    name: ProjectionName | None = Field(
        default=None, description="projection; `fedsieve list projection`"
    )
    k: Count | None = Field(default=None, description="numbers in a message, at most the model's d")
    refresh: int | None = Field(
        default=None, ge=0, description="rounds after which the map is planned anew; 0: never"
    )


class Codec(Section):
    """How a message becomes bytes."""

    name: CodecName = Field(default="none", description="code of a message; `fedsieve list codec`")
    before_noise: bool = Field(
        default=False,
        description="code before the noise, not after; possible only where there is no noise",
    )
