"""What an attack on training is: a pure function of what its clients know.

A *record attack* replaces records that malicious clients train on, a *data attack* only their
labels; the clients then follow the protocol. A *message attack* replaces their rows of the stack,
at the place where real messages would be; what it remembers from round to round it takes and
returns as named tensors, which the simulation keeps. A backdoor may be both, see `backdoor`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import Flag, auto
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedsieve.learning.layout import Subspace
from fedsieve.learning.nearness import Nearness

Weigh = Callable[[NDArray[np.float64]], Tensor | NDArray[np.float64]]

MODEST = 1e15  # numbers in [1/MODEST, MODEST] have squares that fit a float32

Memory = dict[str, Tensor]
"""What an attack remembers: name -> tensor. Vectors are kept in R^d, which outlives a subspace."""


class Knowledge(Flag):
    """What malicious clients must know besides their own data, messages and the public protocol."""

    NOTHING = 0
    UPDATES = auto()  # the honest clients' messages of this round
    RULE = auto()  # how the server aggregates
    PROJECTION = auto()  # the seed of the projections, before their rounds have come
    DATA = auto()  # honest clients' records
    NOISE = auto()  # clip and noise multiplier of the privacy mechanism, or a way around it
    RANDOMNESS = auto()  # what the server's rule draws; no attack needs it, searches profit

    @property
    def words(self) -> tuple[str, ...]:
        """The flags as a configuration names them."""
        return tuple(str(flag.name).lower() for flag in self)

    @classmethod
    def of(cls, words: Iterable[str]) -> Knowledge:
        """The flags that a configuration names."""
        known = cls.NOTHING
        for word in words:
            known |= cls[word.upper()]
        return known


@dataclass(frozen=True, eq=False)
class Scene:
    """What an omniscient attacker sees of one round, in the space of the messages.

    Attributes:
        honest: The honest messages, (h, k) with h >= 1; never modified.
        f: Number of malicious clients, >= 0.
        aggregate: The server's rule: maps a stack (h + f, k), honest rows first, to the (k,)
            aggregate; it must not keep the stack, which is overwritten between calls. Where the
            rule draws, these are the attacker's own draws unless it knows the server's.
        rng: The attacker's randomness.
        own: What the malicious clients would send if they were honest, (f, k), without its noise
            for an attack that omits it; ``None`` if they have no data, in which case the honest
            mean stands for it.
        weigh: For a rule that sees inner products only: maps the Gram of a stack, (h + f, h + f)
            float64, to the clients' weights. A line search then costs the same whatever k is.
        refusals: Exceptions by which ``aggregate`` says that it refuses a stack.
        subspace: The round's linear map R^d -> R^k; ``None`` is the identity.
        foresee: The map in so many rounds from now, for whoever knows the seed; ``None`` if the
            maps are not drawn in advance or are all the same.
        noise_std: Standard deviation of the privacy noise in each number of an honest message,
            momentum and all; ``None`` where the messages carry none.
        ids: Who sent the honest rows; empty: 0..h-1.
        last: The last aggregate as the public model tells it, (k,), or the server's momentum of
            such; ``None`` before the first, or if the attack does not ask for it.
        model: The public model in the units of a message, (d,): ``model + lift(x)`` is, so scaled,
            the model that the message x alone would lead to. 0 where messages are models; ``None``
            if the attack does not ask for it, or for numbers that are no part of the model.
        memory: What the attack returned from the round before; empty at first.

    Raises:
        ValueError: ``honest``, ``own`` or ``ids`` has another shape, or ``f`` is negative.
    """

    honest: Tensor
    f: int
    aggregate: Callable[[Tensor], Tensor]
    rng: np.random.Generator
    own: Tensor | None = None
    weigh: Weigh | None = None
    refusals: tuple[type[Exception], ...] = ()
    subspace: Subspace | None = None
    foresee: Callable[[int], Subspace] | None = None
    noise_std: float | None = None
    ids: tuple[int, ...] = ()
    last: Tensor | None = None
    model: Tensor | None = None
    memory: Memory = field(default_factory=dict)

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
        if self.ids and len(self.ids) != len(self.honest):
            raise ValueError(f"ids={self.ids} must name the {len(self.honest)} honest rows")

    @property
    def k(self) -> int:
        """Numbers in a message."""
        return self.honest.shape[1]

    @cached_property
    def mean(self) -> Tensor:
        """Mean of the honest messages, (k,)."""
        return self.honest.mean(dim=0)

    @cached_property
    def std(self) -> Tensor:
        """Standard deviation of the honest messages in every coordinate, (k,); 0 if h = 1."""
        return deviation(self.honest, self.mean)

    @property
    def isometric(self) -> bool:
        """Whether the lift keeps lengths, as every map with orthonormal layers does."""
        return self.subspace is None or self.subspace.maps is not None

    def lift(self, message: Tensor) -> Tensor:
        """What a message (..., k) is in the space of the model, (..., d)."""
        return message if self.subspace is None else self.subspace.lift(message)

    def project(self, vector: Tensor) -> Tensor:
        """What of a vector (..., d) fits into a message, (..., k)."""
        return vector if self.subspace is None else self.subspace.project(vector)

    def seen(self, *, partial: bool) -> Tensor:
        """The messages from which an attack estimates the honest ones: (m, k).

        Args:
            partial: Take the malicious clients' own honest messages, as attackers do who see no
                others; the true honest ones where there are none.
        """
        return self.own if partial and self.own is not None and self.f else self.honest

    def rows(self, message: Tensor) -> Tensor:
        """The malicious rows (f, k): their own messages (f, k), or one message (k,) for all."""
        return message.to(self.honest.dtype).expand(self.f, -1).contiguous().clone()


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

    Only where it ``uses_own`` does a simulation compute what its clients would send if they
    followed the protocol (on false records, if it poisons these too), and where it ``omits_noise``
    they compute it without privacy noise. Only where it ``uses_last`` is it shown the last
    aggregate, and only where it ``uses_model`` the public model.
    """

    omits_noise: ClassVar[bool] = False
    uses_last: ClassVar[bool] = False

    @property
    def omits_pairs(self) -> bool:
        """Whether, omitting the noise, it omits what its clients share with others as well."""
        return self.omits_noise

    @property
    def near(self) -> Nearness | None:
        """What keeps the local training of its clients near the model that they were sent."""
        return None

    @property
    def uses_own(self) -> bool:
        """Whether it needs what its clients would honestly send."""
        return False

    @property
    def uses_model(self) -> bool:
        """Whether it needs the model that the clients were sent, which is public."""
        return False

    @abstractmethod
    def craft(self, scene: Scene) -> Tensor:
        """Their rows of the stack, (f, k), a new tensor."""

    def remember(self, scene: Scene, rows: Tensor) -> Memory:  # noqa: ARG002 - most need not
        """What to keep for the next round, after ``rows`` (f, k) were sent in this one."""
        return {}


def squared_distances(rows: Tensor) -> Tensor:
    """Squared distances of the rows (m, k) from each other, (m, m) float64."""
    X = rows.double()
    X = X - X.mean(dim=0)  # a common offset would drown the differences
    G = X @ X.T
    square = G.diagonal()
    return (square[:, None] + square - 2 * G).clamp_(min=0).fill_diagonal_(0)


def unit(vector: Tensor) -> Tensor:
    """The vector at length 1; zero stays zero."""
    norm = length(vector)
    return vector / norm if norm > 0 else torch.zeros_like(vector)


def length(vectors: Tensor) -> Tensor:
    """Norms of vectors (..., k) as float64 (...): in float32 a square overflows from 1e19 on."""
    norms: Tensor = torch.linalg.vector_norm(vectors, dim=-1, dtype=torch.float64)
    return norms


def deviation(rows: Tensor, mean: Tensor) -> Tensor:
    """Root mean square distance of rows (m, k) from their mean (k,) in every coordinate, (k,)."""
    away = rows - mean
    low, high = away.aminmax()
    size = max(float(high), -float(low))
    if size == 0 or 1 / MODEST < size < MODEST:
        size = 1.0
    # torch.std over rows walks the columns one by one, ten times slower
    return away.div_(size).square_().mean(dim=0).sqrt_().mul_(size)


def zeros(scene: Scene) -> Tensor:
    """The message (k,) that says nothing."""
    return torch.zeros_like(scene.honest[0])
