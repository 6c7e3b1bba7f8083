"""What a backdoor is, how long it lives, and how its clients may send it.

A backdoor leaves accuracy alone and makes the model give one class, the *target*, for records of a
kind that the attacker can bring about: with a trigger drawn in, or from the tail of a class.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedsieve._arguments import instance
from fedsieve.poisoning.attack import MessageAttack, RecordAttack, Records, Scene, length


class Backdoor(RecordAttack):
    """Malicious clients train the model to take certain records for the target class."""

    @property
    @abstractmethod
    def wanted(self) -> int:
        """The target class."""

    @abstractmethod
    def lures(self, test: Records) -> Tensor:
        """Records (M, ...), M >= 1, of other classes that the backdoored model takes for `wanted`.

        The share of them that it does is the attack success rate.

        Args:
            test: The test set, as stored.

        Raises:
            ValueError: The test set does not allow any.
        """


@dataclass(frozen=True)
class SentBackdoor(Backdoor, MessageAttack):
    """A backdoor whose clients also change what the poisoned training makes them send.

    Args:
        backdoor: What the clients train on.

    Raises:
        ValueError: ``backdoor`` is none.
    """

    backdoor: Backdoor

    def __post_init__(self) -> None:
        instance(self, "backdoor", Backdoor)

    @property
    def uses_own(self) -> bool:
        """What poisoned training would make its clients send."""
        return True

    @property
    def wanted(self) -> int:
        """The target class."""
        return self.backdoor.wanted

    def poison(self, held: Sequence[Records], rngs: Sequence[np.random.Generator]) -> list[Records]:
        """As the backdoor does."""
        return self.backdoor.poison(held, rngs)

    def lures(self, test: Records) -> Tensor:
        """Those of the backdoor."""
        return self.backdoor.lures(test)


def own_messages(scene: Scene) -> Tensor:
    """What the poisoned clients would send (f, k); the honest mean where they have no data."""
    return scene.rows(scene.mean) if scene.own is None else scene.own


def shortened(messages: Tensor, norm: float | Tensor) -> Tensor:
    """The messages (f, k), none longer than ``norm``; a new tensor."""
    lengths = length(messages)[:, None].clamp(min=torch.finfo(torch.float64).tiny)
    factors: Tensor = (norm / lengths).clamp(max=1.0)
    return messages * factors.to(messages)


def full_boost(scene: Scene, server_lr: float) -> float:
    """The boost by which f equal messages replace a mean: (h + f) / (f eta)."""
    return (len(scene.honest) + scene.f) / (max(scene.f, 1) * server_lr)


def chosen(records: int, fraction: float, rng: np.random.Generator) -> Tensor:
    """Positions of that share of the records, at least one, drawn without replacement, (M,)."""
    size = min(records, max(1, round(fraction * records)))
    return torch.from_numpy(np.sort(rng.choice(records, size, replace=False)))


def check_class(name: str, value: int, classes: int) -> None:
    """Refuse a class that the data do not have."""
    if classes < 2:
        raise ValueError(f"a backdoor needs at least 2 classes; these data have {classes}")
    if not 0 <= value < classes:
        raise ValueError(f"{name}={value} must be one of the classes 0..{classes - 1}")


def half_life(rounds: Sequence[int], rates: Sequence[float], stop: int) -> int | None:
    """Rounds after the attack's end until its success rate is at most half of what it was.

    Args:
        rounds: Rounds that were evaluated, ascending.
        rates: Attack success rate after each.
        stop: First round without the attack.

    Returns:
        Number of rounds from ``stop`` on, the first that halved the rate included; it is as fine as
        the evaluations. The rate before is the last that was measured while the attack went on.
        ``None`` if there is none, if it is 0, or if it was never halved.

    Example:
        >>> half_life([0, 1, 2, 3, 4], [0.1, 0.8, 0.7, 0.5, 0.4], stop=2)
        3
    """
    during = [rate for t, rate in zip(rounds, rates, strict=True) if t < stop]
    if not during or during[-1] <= 0:
        return None
    halved = (
        t for t, rate in zip(rounds, rates, strict=True) if t >= stop and rate <= during[-1] / 2
    )
    first = next(halved, None)
    return None if first is None else first - stop + 1
