"""AGR-tailored.

Shejwalkar, Houmansadr, "Manipulating the Byzantine: optimizing model poisoning attacks and defenses
for federated learning", NDSS 2021, for an attacker who knows the server's aggregation rule (AGR).
With mu the honest mean and p a direction (`fedsieve.poisoning._directions`), every malicious client
sends

    mu + gamma p,   the largest gamma that the rule accepts.

The paper has one test of acceptance per rule (Krum chooses the message, multi-Krum keeps all of
them, ...). Here is one for all: the messages move the aggregate along p by at least half of what
they would move a plain average, <R - mu, p> >= gamma ||p||^2 f / (2n), and it is they who do: a
little more of gamma changes R. gamma is found as in the paper, from gamma_0 = 10 by steps that
halve, up where it is accepted and down where it is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from torch import Tensor

from fedsieve._arguments import choice
from fedsieve.poisoning._directions import Direction, perturbation
from fedsieve.poisoning._line_search import question
from fedsieve.poisoning.attack import Knowledge, MessageAttack, Scene, length, unit
from fedsieve.registry import register

GAMMA = 10.0  # where the search starts, in honest standard deviations; the paper's range is 10..50
STEPS = 20  # halvings: the last step is 1e-5 of a standard deviation, the paper's tolerance
MORE = 1e-3  # a little more of gamma
IGNORED = 1e-2  # of what it would change in an average: so little that the rule does not look at it


@register(
    "attack", "agr-tailored", paper='Shejwalkar, Houmansadr, "Manipulating the Byzantine", 2021'
)
@dataclass(frozen=True)
class AGRTailored(MessageAttack):
    """AGR-tailored: as far from the honest mean as the server's own rule accepts.

    Args:
        direction: ``std``, ``mean`` or ``sign``, at the length of the honest standard deviation.

    Raises:
        ValueError: No direction has that name.
    """

    direction: Direction = "std"

    def __post_init__(self) -> None:
        choice(self, "direction", get_args(Direction))

    @property
    def knowledge(self) -> Knowledge:
        """Honest messages and the rule."""
        return Knowledge.UPDATES | Knowledge.RULE

    def craft(self, scene: Scene) -> Tensor:
        """The message mu + gamma p."""
        p = unit(perturbation(self.direction, scene.honest)) * length(scene.std)
        if scene.f == 0 or not p.any():
            return scene.rows(scene.mean)
        ask = question(scene, p, scene.mean)
        share = scene.f / (len(scene.honest) + scene.f) / 2

        def accepts(gamma: float) -> bool:
            _, pull = ask(gamma)
            if not pull >= share * gamma:  # nan where the rule refused the stack
                return False
            _, farther = ask(gamma * (1 + MORE))
            return not abs(farther - pull) < IGNORED * MORE * share * gamma

        accepted, gamma, step = 0.0, GAMMA, GAMMA
        for _ in range(STEPS):
            step /= 2
            if accepts(gamma):
                accepted = max(accepted, gamma)
                gamma += step
            else:
                gamma -= step
        return scene.rows(scene.mean + accepted * p)
