"""What malicious clients do."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from fedsieve.experiments.words import (
    AttackName,
    Count,
    Positive,
    Section,
    Share,
    Strength,
    listed,
    path_text,
)


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
            tuple[Literal["updates", "rule", "projection", "data", "noise", "randomness"], ...],
            Field(strict=False),
            BeforeValidator(listed),
        ]
        | None
    ) = Field(
        default=None,
        description="all that the malicious clients know of the others, such as []; "
        "default: whatever the attack needs, which is never the server's draws (randomness)",
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
    space: Literal["updates", "parameters"] | None = Field(
        default=None,
        description="fang-trimmed-mean, fang-median: whether the extremes are those of the honest "
        "updates or of the models that these lead to",
    )
    alike: bool | None = Field(
        default=None,
        description="fang-trimmed-mean, fang-median: whether all malicious clients send one draw",
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
    alpha: Share | None = Field(
        default=None,
        description="constrain-and-scale: weight of the poisoned records against staying near the "
        "model, in local steps",
    )
    evades: Literal["norm", "cosine"] | None = Field(
        default=None, description="constrain-and-scale: what staying near is measured by"
    )
    pairs: Literal["omit", "keep"] | None = Field(
        default=None,
        description="un-noised, privacy.trust=distributed: whether noise shared with others is "
        "left out as well",
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
