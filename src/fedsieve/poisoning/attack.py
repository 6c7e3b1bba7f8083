"""What an attack on training is: a pure function of what its clients know.

A *record attack* replaces records that malicious clients train on, a *data attack* only their
labels; the clients then follow the protocol. A *message attack* replaces their rows of the stack,
at the place where real messages would be. A backdoor may be both, see `backdoor`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Flag, auto
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Weigh = Callable[[NDArray[np.float64]], Tensor | NDArray[np.float64]]


class Knowledge(Flag):
    """What malicious clients must know besides their own data and messages."""

    NOTHING = 0
    UPDATES = auto()  # the honest clients' messages of this round
    RULE = auto()  # how the server aggregates


@dataclass(frozen=True, eq=False)
class Scene:
    """What an omniscient attacker sees of one round, in the space of the messages.

    Attributes:
        honest: The honest messages, (h, k) with h >= 1; never modified.
        f: Number of malicious clients, >= 0.
        aggregate: The server's rule: maps a stack (h + f, k), honest rows first, to the (k,)
            aggregate; it must not keep the stack, which is overwritten between calls.
        rng: The attacker's randomness.
        own: What the malicious clients would send if they were honest, (f, k); ``None`` if they
            have no data, in which case the honest mean stands for it.
        weigh: For a rule that sees inner products only: maps the Gram of a stack, (h + f, h + f)
            float64, to the clients' weights. A line search then costs the same whatever k is.
        refusals: Exceptions by which ``aggregate`` says that it refuses a stack.
        last: How the last aggregate moved the public model, (k,), known up to a factor; ``None``
            before the first, or if the attack does not ask for it.

    Raises:
        ValueError: ``honest`` or ``own`` has another shape, or ``f`` is negative.
    """

    honest: Tensor
    f: int
    aggregate: Callable[[Tensor], Tensor]
    rng: np.random.Generator
    own: Tensor | None = None
    weigh: Weigh | None = None
    refusals: tuple[type[Exception], ...] = ()
    last: Tensor | None = None

    def __post_init__(self) -> None:
        if self.honest.ndim != 2 or len(self.honest) == 0:
            raise ValueError(f"honest has shape {tuple(self.honest.shape)}; allowed is (h >= 1, k)")
        if self.f < 0:
            raise ValueError(f"f={self.f} must be >= 0")
        if self.own is not None and self.own.shape != (self.f, self.honest.shape[1]):
            raise ValueError(
                f"own has shape {tuple(self.own.shape)}; "
                f"allowed is {(self.f, self.honest.shape[1])} = (f, k)"
            )

    @cached_property
    def mean(self) -> Tensor:
        """Mean of the honest messages, (k,)."""
        return self.honest.mean(dim=0)

    @cached_property
    def std(self) -> Tensor:
        """Standard deviation of the honest messages in every coordinate, (k,); 0 if h = 1."""
        # torch.std over rows walks the columns one by one, ten times slower
        return (self.honest - self.mean).square_().mean(dim=0).sqrt_()

    def rows(self, message: Tensor) -> Tensor:
        """The malicious rows (f, k): their own messages (f, k), or one message (k,) for all."""
        return message.expand(self.f, -1).contiguous().clone()


class Attack(ABC):
    """An attack on training; what it does is said by its two kinds."""

    @property
    @abstractmethod
    def knowledge(self) -> Knowledge:
        """What it must know; a configuration that denies this refuses the attack."""


@dataclass(frozen=True, eq=False)
class Records:
    """What one client holds.

    Attributes:
        x: Records as stored, (N, ...): uint8 images, float32 features or int64 tokens.
        y: Labels (N,).
        classes: Number of classes; 0 for a regression.
    """

    x: Tensor
    y: Tensor
    classes: int


class RecordAttack(Attack):
    """Malicious clients train on false records."""

    @abstractmethod
    def poison(self, held: Sequence[Records], rngs: Sequence[np.random.Generator]) -> list[Records]:
        """What the malicious clients train on.

        Args:
            held: What each of them holds; never modified. They may put it together.
            rngs: The randomness of each.

        Returns:
            For each as many records as it holds, in the same places.
        """


class DataAttack(RecordAttack):
    """Malicious clients train on false labels and are honest otherwise."""

    def poison(self, held: Sequence[Records], rngs: Sequence[np.random.Generator]) -> list[Records]:
        """Their records under false labels."""
        return [
            replace(own, y=self.poison_labels(own.y, own.classes, rng))
            for own, rng in zip(held, rngs, strict=True)
        ]

    @abstractmethod
    def poison_labels(self, labels: Tensor, classes: int, rng: np.random.Generator) -> Tensor:
        """False labels for the records of the malicious clients.

        Args:
            labels: True labels, (N,) int64 in 0..classes-1; never modified.
            classes: Number of classes.
            rng: The attacker's randomness.
        """


class MessageAttack(Attack):
    """Malicious clients send crafted messages.

    ``uses_own`` says whether the attack starts from what its clients would send if they followed
    the protocol, ``uses_last`` whether it looks at the last aggregate; only then does a simulation
    provide that.
    """

    uses_own: ClassVar[bool] = False
    uses_last: ClassVar[bool] = False

    @abstractmethod
    def craft(self, scene: Scene) -> Tensor:
        """Their rows of the stack, (f, k), a new tensor."""


def check_strength(strength: float | None, least: float) -> None:
    """Refuse a strength that is neither ``None`` nor a finite number >= least."""
    if strength is not None and not (np.isfinite(strength) and strength >= least):
        allowed = "finite" if least == -np.inf else f"finite and >= {least:g}"
        raise ValueError(f"strength={strength} must be {allowed}, or None for a line search")


def zeros(scene: Scene) -> Tensor:
    """The message (k,) that says nothing."""
    return torch.zeros_like(scene.honest[0])
