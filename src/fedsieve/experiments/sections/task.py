"""What is learned, and by whom: data, clients, model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from fedsieve.experiments.words import (
    Count,
    DatasetName,
    ModelName,
    PartitionName,
    Positive,
    Probability,
    Section,
    Widths,
    path_text,
    share_or_count,
)


class Data(Section):
    """Which records, and who holds them."""

    name: DatasetName = Field(default="fashion-mnist", description="data set; `fedsieve data list`")
    dir: Annotated[str, BeforeValidator(path_text)] | None = Field(
        default=None, description="directory that is searched first; default: FEDSIEVE_DATA"
    )
    download: bool = Field(default=False, description="fetch the set if no file of it is found")
    partition: PartitionName = Field(default="iid", description="how the records go to the clients")
    alpha: Positive = Field(
        default=0.5,
        description="concentration of the dirichlet partition; small: few classes per client",
    )
    classes_per_client: Count = Field(
        default=2, description="classes of a client in the shards partition"
    )
    gamma: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="share dealt iid in the gamma partition; the rest is sorted",
    )
    sizes: Literal["equal", "dirichlet"] = Field(
        default="equal", description="how many records a client gets"
    )
    size_alpha: Positive = Field(default=2.0, description="concentration of dirichlet sizes")


class Federation(Section):
    """Who takes part."""

    clients: Count = Field(default=20, description="number of clients")
    byzantine: int = Field(default=0, ge=0, description="how many of them are malicious")
    participation: Annotated[int | float, AfterValidator(share_or_count)] = Field(
        default=1.0,
        description="cohort of a round: a fraction in (0, 1], or a number of clients above 1",
    )
    dropout: Probability = Field(
        default=0.0, description="probability that a client of the cohort sends nothing"
    )
    stragglers: Probability = Field(
        default=0.0, description="probability that a client manages only part of its local steps"
    )

    @property
    def cohort(self) -> int:
        """Clients per round."""
        if isinstance(self.participation, int):
            return min(self.participation, self.clients)
        return max(1, round(self.participation * self.clients))


class Model(Section):
    """What is trained."""

    name: ModelName = Field(default="mlp", description="model; `fedsieve list model`")
    hidden: Widths = Field(default=(64,), description="widths of the hidden layers of an mlp")
    activation: Literal["relu", "tanh", "sigmoid"] = Field(
        default="relu", description="what the hidden units of an mlp do"
    )
