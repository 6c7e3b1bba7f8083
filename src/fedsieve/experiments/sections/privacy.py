"""Against the server: differential privacy."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from fedsieve.experiments import protection
from fedsieve.experiments.words import Positive, Section


class Privacy(Section):
    """Differential privacy of every client; without this section there is none."""

    unit: Literal["record", "client"] = Field(
        default="record",
        description="what is protected: one record of a client, or all that a client holds",
    )
    trust: Literal["local", "distributed", "central"] = Field(
        default="local",
        description="who adds the noise: each client all of it, the clients together (it cancels "
        "in their mean), or the server (which then sees everything)",
    )
    colluders: int | None = Field(
        default=None,
        ge=0,
        description="trust=distributed: clients that may help the server; "
        "default: federation.byzantine",
    )
    epsilon: Positive | None = Field(
        default=None,
        description="total epsilon of the run; calibrates the noise (or noise_multiplier)",
    )
    delta: float = Field(default=1e-5, gt=0, lt=1, description="delta of the statement")
    clip: Positive | None = Field(
        default=None,
        description="largest norm in R^k of what is protected: a record's gradient, or a client's "
        "update (unit=client)",
    )
    clipping: Literal["flat", "automatic", "per-layer"] = Field(
        default="flat",
        description='shorten vectors whole ("flat") or by layer, or scale each to the clip',
    )
    clip_split: Literal["equal", "size"] = Field(
        default="equal", description="per-layer: equal shares of clip^2, or by a layer's numbers"
    )
    clip_quantile: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="share of gradients that the clip leaves alone: it follows; default: it stays",
    )
    clip_rate: Positive = Field(default=0.2, description="clip_quantile: step of the clip's log")
    clip_noise: Positive | None = Field(
        default=None,
        description="clip_quantile: noise on a client's count; default: costs 2% of 1/noise^2",
    )
    noise: Literal["gaussian", "discrete-gaussian", "skellam"] = Field(
        default="gaussian", description="law of the noise; the latter two are integers on a lattice"
    )
    noise_multiplier: Positive | None = Field(
        default=None, description="noise standard deviation / clip; instead of epsilon"
    )
    noise_seed: int | None = Field(
        default=None,
        ge=0,
        description="simulation only: seed of the noise; default: the system's entropy",
    )
    relation: Literal["add-remove", "replace-one", "zero-out"] = Field(
        default="add-remove", description="which data sets are neighbours"
    )

    sampling: Literal["poisson", "shuffled", "random-allocation"] = Field(
        default="poisson",
        description="how records come to the steps: each joins each step by itself, or once in an "
        "epoch, in shuffled batches of fixed size or in a step drawn for each record",
    )

    @model_validator(mode="after")
    def _one_noise(self) -> Privacy:
        protection.noise_is_given_once(self)
        return self
