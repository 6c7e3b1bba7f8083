"""Garbage: what a broken or spiteful client sends to crash a server, or to reach the model as NaN.

nan     one NaN among the numbers of its own message
inf     +Inf and -Inf in turn
huge    +-1e38 at random, which overflows float32 when two are added or one is squared
bytes   random bits read as numbers of the message's type
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from fedsieve._arguments import choice
from fedsieve.poisoning.attack import Knowledge, MessageAttack, Scene
from fedsieve.registry import register

Kind = Literal["nan", "inf", "huge", "bytes"]


@register("attack", "garbage", paper="folklore")
@dataclass(frozen=True)
class Garbage(MessageAttack):
    """Garbage: messages that are no finite numbers, or barely.

    A robust rule counts such rows against its f; a mean without tolerance refuses the round.

    Args:
        kind: ``nan``, ``inf``, ``huge`` or ``bytes``.

    Raises:
        ValueError: No kind has that name.
    """

    kind: Kind = "nan"

    uses_own: ClassVar[bool] = True

    def __post_init__(self) -> None:
        choice(self, "kind", get_args(Kind))

    @property
    def knowledge(self) -> Knowledge:
        """Nothing."""
        return Knowledge.NOTHING

    def craft(self, scene: Scene) -> Tensor:
        """The rows, another draw for every client."""
        shape = scene.f, scene.k
        rows = scene.rows(scene.seen(partial=True).mean(dim=0))
        if self.kind == "nan":
            places = torch.from_numpy(scene.rng.integers(scene.k, size=scene.f)).to(rows.device)
            rows[torch.arange(scene.f, device=rows.device), places] = torch.nan
            return rows
        if self.kind == "inf":
            rows[:, 0::2], rows[:, 1::2] = torch.inf, -torch.inf
            return rows
        if self.kind == "huge":
            signs = scene.rng.choice([-1.0, 1.0], size=shape)
            return torch.from_numpy(1e38 * signs).to(rows)
        kind = np.float64 if rows.dtype == torch.float64 else np.float32
        bits = scene.rng.bytes(scene.f * scene.k * np.dtype(kind).itemsize)
        return torch.from_numpy(np.frombuffer(bits, kind).reshape(shape).copy()).to(rows)
