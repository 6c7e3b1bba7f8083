"""The configuration of a run: one frozen model per section, every key with its range and meaning.

Descriptions and ranges are written once, here: the JSON schema (``fedsieve schema``), the commented
file (``fedsieve init``) and the error messages are made from them. ``None`` stands for "the
algorithm's own default" and is filled by `fedsieve.experiments.resolve.resolve`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator

from fedsieve.experiments import checks, protection
from fedsieve.experiments.words import (
    AlgorithmName,
    AttackName,
    CodecName,
    Count,
    DatasetName,
    ModelName,
    PartitionName,
    Positive,
    PreAggregators,
    Probability,
    ProjectionName,
    RuleName,
    Section,
    Share,
    Strength,
    Widths,
    listed,
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

    @model_validator(mode="after")
    def _one_noise(self) -> Privacy:
        protection.noise_is_given_once(self)
        return self


class Attack(Section):
    """What the malicious clients do."""

    name: AttackName = Field(default="none", description="attack; `fedsieve list attack`")
    strength: Strength | Literal["published"] | None = Field(
        default=None,
        description="fixed strength, or the paper's; default: the attack's own, for many a line "
        "search against the rule",
    )
    start: int = Field(
        default=0, ge=0, description="first round of the attack; malicious clients behave before"
    )
    stop: Count | None = Field(
        default=None, description="round before which the attack ends; default: it does not"
    )
    knowledge: (
        Annotated[
            tuple[Literal["updates", "rule", "projection", "data", "noise"], ...],
            Field(strict=False),
            BeforeValidator(listed),
        ]
        | None
    ) = Field(
        default=None,
        description="all that the malicious clients know of the others, such as []; "
        "default: whatever the attack needs",
    )
    backdoor: Literal["badnets", "dba", "edge-case"] | None = Field(
        default=None, description="what model-replacement and the like make the clients train on"
    )
    target: int | None = Field(
        default=None,
        ge=0,
        description="backdoors: class that the model is to give; label-flip-targeted: class that "
        "the records are labelled as",
    )
    fraction: Share | None = Field(
        default=None, description="backdoors: share of a malicious client's records that is false"
    )
    size: Count | None = Field(
        default=None, description="badnets, dba: edge of the trigger in pixels"
    )
    position: Literal["top-left", "top-right", "bottom-left", "bottom-right", "center"] | None = (
        Field(default=None, description="badnets, dba: place of the trigger in the image")
    )
    source: int | None = Field(
        default=None,
        ge=0,
        description="edge-case: class whose rarest members are used; label-flip-targeted: class "
        "whose records are relabelled",
    )
    tail: Share | None = Field(
        default=None, description="edge-case: share of the class that counts as rare"
    )
    file: Annotated[str, BeforeValidator(path_text)] | None = Field(
        default=None, description="edge-case: .npz file with x (and x_test) instead of the tail"
    )
    boost: Positive | None = Field(
        default=None,
        description="model-replacement, constrain-and-scale: factor of the update; default: what "
        "replaces the model",
    )
    norm: Positive | None = Field(
        default=None,
        description="constrain-and-scale, neurotoxin: largest norm of a message",
    )
    mask_ratio: Share | None = Field(
        default=None, description="neurotoxin: share of the coordinates that are used"
    )
    partial: bool | None = Field(
        default=None,
        description="estimate the honest messages from the malicious clients' own honest ones",
    )
    direction: Literal["std", "mean", "sign", "own", "random"] | None = Field(
        default=None, description="where to shift the honest mean"
    )
    centre: Literal["zero", "mean"] | None = Field(
        default=None, description="gaussian: mean of the noise"
    )
    kind: Literal["nan", "inf", "huge", "bytes"] | None = Field(
        default=None, description="garbage: what is sent"
    )
    warm_up: Count | None = Field(
        default=None, description="mimic: rounds in which it learns whom to copy"
    )
    horizon: Count | None = Field(
        default=None, description="mask-aware: projections that it looks ahead"
    )
    relocation: float | None = Field(
        default=None, ge=0, le=1, description="rop: weight of the last aggregate in its reference"
    )

    @property
    def options(self) -> dict[str, Any]:
        """The settings that were given, as the attack's arguments."""
        general = {"name", "start", "stop", "knowledge"}
        held = self.model_dump(exclude=general, exclude_none=True)
        return dict(held)


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


class Codec(Section):
    """How a message becomes bytes."""

    name: CodecName = Field(default="none", description="code of a message; `fedsieve list codec`")
    before_noise: bool = Field(
        default=False,
        description="code before the noise, not after; possible only where there is no noise",
    )


class Checkpoint(Section):
    """What survives a crash."""

    every: int = Field(default=10, ge=0, description="rounds between checkpoints; 0: none")


class Evaluation(Section):
    """How often the model is tested."""

    every: Count = Field(
        default=5, description="rounds between evaluations; the last is always evaluated"
    )


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
