"""Slow bias through error feedback.

Derived for this project. A client with error feedback adds to its message what compression left of
earlier ones, a residual e_t that nobody can verify. Malicious clients claim one that grows by a
little every round, in one direction u against training, and never send more than others do:

    sent_t  = (x_t + e_t) min(1, r_t / ||x_t + e_t||)
    e_{t+1} = e_t + s r_t u,      u = -mu_0 / ||mu_0||,  e_0 = 0,

x_t their own honest messages, r_t the median norm of the honest ones. No round looks much different
from the one before; after some 1/s rounds the bias outweighs the message, and after some more it is
all that is sent. e and u are kept in R^d: the round's subspace may change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fedsieve._arguments import real
from fedsieve.poisoning.attack import (
    Knowledge,
    Memory,
    MessageAttack,
    Scene,
    length,
    unit,
    zeros,
)
from fedsieve.poisoning.backdoor import shortened
from fedsieve.registry import register


@register("attack", "slow-bias", paper="FedSieve: an attack adapted to error feedback")
@dataclass(frozen=True)
class SlowBias(MessageAttack):
    """Slow bias: a false residual that grows round by round in messages of ordinary length.

    Args:
        strength: Growth s >= 0 of the residual per round in honest median norms; ``None``: 0.1.

    Raises:
        ValueError: ``strength`` is negative or not finite.
    """

    strength: float | None = None

    uses_own: ClassVar[bool] = True

    def __post_init__(self) -> None:
        real(self, "strength", least=0, none="for 0.1")

    @property
    def knowledge(self) -> Knowledge:
        """Honest messages: their length, and once their direction."""
        return Knowledge.UPDATES

    def craft(self, scene: Scene) -> Tensor:
        """Own message and residual, cut to the median norm of the honest messages."""
        e = zeros(scene)
        if scene.memory:
            e = scene.project(scene.memory["residual"])
        claimed = scene.rows(scene.mean if scene.own is None else scene.own) + e
        return shortened(claimed, length(scene.honest).median())

    def remember(self, scene: Scene, rows: Tensor) -> Memory:  # noqa: ARG002 - of the form
        """The residual e, and u."""
        held = scene.memory
        u = held["direction"] if held else scene.lift(-unit(scene.mean))
        s = 0.1 if self.strength is None else self.strength
        e = s * length(scene.honest).median() * u
        return {"residual": held["residual"] + e if held else e, "direction": u.clone()}
