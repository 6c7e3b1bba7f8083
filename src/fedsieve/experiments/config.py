"""The configuration of a run: its sections and the keys that stand above them.

Descriptions and ranges are written once, in `fedsieve.experiments.sections`: the JSON schema
(``fedsieve schema``), the commented file (``fedsieve init``) and the error messages are made from
them. ``None`` stands for "the algorithm's own default" and is filled by
`fedsieve.experiments.resolve.resolve`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from fedsieve.experiments import checks
from fedsieve.experiments.sections.aggregation import Aggregation
from fedsieve.experiments.sections.attack import Attack
from fedsieve.experiments.sections.course import Checkpoint, Evaluation
from fedsieve.experiments.sections.method import Algorithm, Codec, Projection
from fedsieve.experiments.sections.privacy import Privacy
from fedsieve.experiments.sections.task import Data, Federation, Model
from fedsieve.experiments.words import Count, Section


class Config(Section):
    """Everything that decides a run.

    Raises:
        pydantic.ValidationError: A value or a combination that cannot be run;
            `fedsieve.experiments.toml.parse` turns it into a one-line `ConfigError`.

    Example:
        >>> Config(rounds=3).federation.cohort
        20
    """

    name: str | None = Field(
        default=None, description="title of the run in reports and of its directory"
    )
    seed: int = Field(
        default=0, ge=0, description="seed of data order, partition, model and projections"
    )
    rounds: Count = Field(default=150, description="number of rounds")
    device: str = Field(
        default="cpu", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32", description="number format of the model's forward and backward pass"
    )
    workers: Count | Literal["auto"] = Field(
        default=1, description='processes for algorithms with local steps; "auto": one per core'
    )
    data: Data = Field(default_factory=Data)
    federation: Federation = Field(default_factory=Federation)
    model: Model = Field(default_factory=Model)
    algorithm: Algorithm = Field(default_factory=Algorithm)
    projection: Projection = Field(default_factory=Projection)
    privacy: Privacy | None = Field(default=None, description="no section: no differential privacy")
    attack: Attack = Field(default_factory=Attack)
    aggregation: Aggregation = Field(default_factory=Aggregation)
    codec: Codec = Field(default_factory=Codec)
    checkpoint: Checkpoint = Field(default_factory=Checkpoint)
    evaluation: Evaluation = Field(default_factory=Evaluation)

    @model_validator(mode="after")
    def _possible(self) -> Config:
        checks.combination(self)
        return self

    @property
    def title(self) -> str:
        """The run's name, or what it is."""
        if self.name is not None:
            return self.name
        attack = "" if self.attack.name == "none" else f"-{self.attack.name}"
        return f"{self.algorithm.name}-{self.data.name}{attack}-seed{self.seed}"
