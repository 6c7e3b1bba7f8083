"""ALIE, a little is enough.

Baruch, Baruch, Goldberg, "A little is enough: circumventing defenses for distributed learning",
NeurIPS 2019. With mu and s the coordinatewise mean and standard deviation of the honest messages,
every malicious client sends

    mu - z s,    in the paper with  z = Phi^-1((n - f - t) / (n - f)),  t = floor(n/2 + 1) - f,

where that is positive, see `published_z`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from scipy.special import ndtri
from torch import Tensor

from fedsieve._arguments import flag, real
from fedsieve.poisoning._directions import perturbation
from fedsieve.poisoning._line_search import REACH, line_search
from fedsieve.poisoning.attack import Knowledge, MessageAttack, Scene
from fedsieve.registry import register


@register("attack", "alie", paper='Baruch et al., "A little is enough", NeurIPS 2019')
@dataclass(frozen=True)
class ALIE(MessageAttack):
    """A little is enough: hides a common shift of all coordinates within the honest spread.

    Args:
        strength: The number z of standard deviations; negative values shift the other way.
            ``"published"``: the paper's z for the cohort, 0 for f = 1 or a majority. ``None``: the
            most damaging one in [-100, 100], by line search against the rule.
        partial: Estimate mu and s from the malicious clients' own honest messages, as in the
            paper; not with a line search, which asks what the others' messages add up to.

    Raises:
        ValueError: ``strength`` is not finite, or missing in the partial form.
    """

    strength: float | Literal["published"] | None = None
    partial: bool = False

    def __post_init__(self) -> None:
        if self.strength != "published":
            real(self, "strength", none="for a line search, or 'published'")
        flag(self, "partial")
        if self.partial and self.strength is None:
            raise ValueError(
                "partial=True needs a strength, such as 'published': a line search knows the "
                "honest messages"
            )

    @property
    def uses_own(self) -> bool:
        """In the partial form."""
        return self.partial

    @property
    def knowledge(self) -> Knowledge:
        """Honest messages, or nothing in the partial form; for a line search the rule as well."""
        if self.partial:
            return Knowledge.NOTHING
        searched = Knowledge.RULE if self.strength is None else Knowledge.NOTHING
        return Knowledge.UPDATES | searched

    def craft(self, scene: Scene) -> Tensor:
        """Mean minus z standard deviations of the honest messages."""
        if self.strength is None:
            return line_search(scene, -scene.std, scene.mean, lower=-REACH).rows
        X = scene.seen(partial=self.partial)
        return scene.rows(X.mean(dim=0) + self._z(scene) * perturbation("std", X))

    def _z(self, scene: Scene) -> float:
        if not isinstance(self.strength, str):
            return self.strength or 0.0
        n = len(scene.honest) + scene.f
        f = min(scene.f, (n - 1) // 2)  # a majority needs no supporters
        return published_z(n, f) if f else 0.0


def published_z(n: int, f: int) -> float:
    """The paper's z: with t honest supporters beyond it, the f malicious clients are a majority.

    It is never below 0. For f = 1 and odd n it is 0, and for f = 1 and even n the paper's formula
    is negative (-0.43 for n = 4, -0.026 for n = 50): one client would need more than half of the
    honest ones beyond its message, which then lies on their side of the mean and pulls the way they
    do. A shift by 0 is the most that its argument allows; the message is the mean.

    Args:
        n: Number of clients.
        f: Number of malicious ones among them, 1 <= f and 2f < n.

    Raises:
        ValueError: f is outside that range.

    Example:
        >>> round(published_z(50, 12), 3)
        0.336
    """
    if not 1 <= f <= (n - 1) // 2:
        raise ValueError(f"f={f} with n={n} must lie in 1..{(n - 1) // 2}")
    supporters = n // 2 + 1 - f
    return max(float(ndtri((n - f - supporters) / (n - f))), 0.0)
