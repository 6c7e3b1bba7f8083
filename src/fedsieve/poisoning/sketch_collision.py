"""Sketch collision: little to be seen in R^k, much done in R^d.

Derived for this project. The server judges a message by its distances in R^k and applies it after
the lift. Where the lift L does not keep lengths (a count sketch, a Gaussian map), some vectors
collide: they are short in the sketch and long in the model. Every malicious client sends

    mu + tau ||s|| v,    v = argmax_{||v|| = 1} ||L v||,  turned so that <L v, L mu> <= 0,

mu and s the honest mean and standard deviation: of all messages at a given distance from the honest
mean, the one that moves the model most. v is found by power iteration on A L, A the projection,
which is the transposed lift up to a factor. A lift with orthonormal columns has no collisions; then
all v are equally good and v = -mu / ||mu||.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fedsieve._arguments import real
from fedsieve.poisoning._directions import gaussian
from fedsieve.poisoning._line_search import line_search
from fedsieve.poisoning.attack import Knowledge, MessageAttack, Scene, length, unit
from fedsieve.registry import register

ITERATIONS = 50


@register("attack", "sketch-collision", paper="FedSieve: an attack adapted to shared projections")
@dataclass(frozen=True)
class SketchCollision(MessageAttack):
    """Sketch collision: the shift that looks small in the message and is largest in the model.

    Args:
        strength: The distance tau >= 0 from the honest mean in honest standard deviations;
            ``None``: the most damaging one in [0, 100], by line search against the server's rule.

    Raises:
        ValueError: ``strength`` is negative or not finite.
    """

    strength: float | None = None

    def __post_init__(self) -> None:
        real(self, "strength", least=0, none="for a line search")

    @property
    def knowledge(self) -> Knowledge:
        """Honest messages; for a line search the rule as well. The round's map is public."""
        searched = Knowledge.RULE if self.strength is None else Knowledge.NOTHING
        return Knowledge.UPDATES | searched

    def craft(self, scene: Scene) -> Tensor:
        """The message mu + tau ||s|| v."""
        v = collision(scene) * length(scene.std)
        if self.strength is None:
            return line_search(scene, v, scene.mean).rows
        return scene.rows(scene.mean + self.strength * v)


def collision(scene: Scene) -> Tensor:
    """The unit vector (k,) that the round's lift makes longest, turned against the honest mean."""
    if scene.isometric:
        return -unit(scene.mean)
    v = unit(gaussian(scene.rng, (scene.k,), scene.honest))
    for _ in range(ITERATIONS):
        v = unit(scene.project(scene.lift(v)))
    return -v if scene.lift(v) @ scene.lift(scene.mean) > 0 else v
