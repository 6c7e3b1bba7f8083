"""How a run is watched and kept."""

from __future__ import annotations

from pydantic import Field

from fedsieve.experiments.words import Count, Section


class Checkpoint(Section):
    """What survives a crash."""

    every: int = Field(default=10, ge=0, description="rounds between checkpoints; 0: none")


class Evaluation(Section):
    """How often the model is tested."""

    every: Count = Field(
        default=5, description="rounds between evaluations; the last is always evaluated"
    )
