"""Mimic.

Karimireddy, He, Jaggi, "Byzantine-robust learning on heterogeneous datasets via bucketing", ICLR
2022. The malicious clients copy one honest client i* round after round, so that its data count
f + 1 times: nothing they send is an outlier. In a warm-up of T_0 rounds they learn the top
direction z of the honest messages by Oja's rule, and who lies farthest along it,

    mu <- t/(t+1) mu + 1/(t+1) mean_i x_i
    z  <- t/(t+1) z + 1/(t+1) u / ||u||,    u = sum_i <x_i - mu, z> (x_i - mu);    z <- z / ||z||
    score_i <- score_i + <x_i - mu, z>,     i* = argmax_i |score_i|,

and copy the present i* meanwhile. z starts at the message farthest from the mean, and the step u is
taken at length 1: the speed of learning does not depend on the scale of the messages. mu and z are
kept in R^d: the round's subspace may change.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedsieve._arguments import integer
from fedsieve.poisoning.attack import Knowledge, Memory, MessageAttack, Scene, length, unit
from fedsieve.registry import register


@register("attack", "mimic", paper='Karimireddy et al., "Bucketing", ICLR 2022')
@dataclass(frozen=True)
class Mimic(MessageAttack):
    """Mimic: all malicious clients copy the honest client that is most unlike the others.

    Args:
        warm_up: Rounds T_0 >= 1 in which z and the scores are learnt; the choice is then held.

    Raises:
        ValueError: ``warm_up`` < 1.
    """

    warm_up: int = 20

    def __post_init__(self) -> None:
        integer(self, "warm_up", 1)

    @property
    def knowledge(self) -> Knowledge:
        """Honest messages."""
        return Knowledge.UPDATES

    def craft(self, scene: Scene) -> Tensor:
        """The message of i*; of the farthest client present where i* sends nothing."""
        memory = self._learnt(scene)
        scores = memory["scores"][list(_ids(scene))].abs()
        return scene.rows(scene.honest[int(scores.argmax())])

    def remember(self, scene: Scene, rows: Tensor) -> Memory:  # noqa: ARG002 - of the form
        """mu, z, the scores by client id and the number of rounds."""
        return self._learnt(scene)

    def _learnt(self, scene: Scene) -> Memory:
        """The memory with this round in it; as it was, once the warm-up is over."""
        ids = _ids(scene)
        held = scene.memory or _at_first(scene)
        missing = max(ids) + 1 - len(held["scores"])
        held = held | {"scores": torch.nn.functional.pad(held["scores"], (0, max(missing, 0)))}
        t = int(held["rounds"])
        if t >= self.warm_up:
            return held
        old, new = t / (t + 1), 1 / (t + 1)
        mu = old * held["mean"] + new * scene.lift(scene.mean)
        centred = scene.honest - scene.project(mu)
        u = unit(unit(centred @ scene.project(held["direction"])) @ centred)
        z = unit(old * held["direction"] + new * scene.lift(u))
        scores = held["scores"].clone()
        scores[list(ids)] += (centred @ scene.project(z)).to(scores)
        rounds = torch.tensor(t + 1)
        return {"mean": mu, "direction": z, "scores": scores, "rounds": rounds}


def _ids(scene: Scene) -> tuple[int, ...]:
    return scene.ids or tuple(range(len(scene.honest)))


def _at_first(scene: Scene) -> Memory:
    far = length(scene.honest - scene.mean).argmax()
    z = scene.lift(unit(scene.honest[far] - scene.mean))
    scores = torch.zeros(0, dtype=torch.float64)
    return {
        "mean": torch.zeros_like(z),
        "direction": z,
        "scores": scores,
        "rounds": torch.tensor(0),
    }
