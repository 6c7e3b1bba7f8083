"""The robust learning rate.

Ozdayi, Kantarcioglu, Gel, "Defending against backdoors in federated learning with robust learning
rate", AAAI 2021. Where too few clients agree on the sign, the server steps the other way:

    eta_j = +eta if |sum_i sign(x_ij)| >= theta else -eta,   R(x)_j = (eta_j / eta) mean_i x_ij.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from fedsieve._arguments import integer
from fedsieve.aggregation._coordinatewise import ROUNDING, Coordinatewise, sign_votes
from fedsieve.aggregation._door import FloatArray
from fedsieve.aggregation._gram import weighted_sum
from fedsieve.aggregation.facts import Facts
from fedsieve.aggregation.rule import largest_share, minority
from fedsieve.registry import register


@register(
    "rule",
    "robust-learning-rate",
    paper='Ozdayi et al., "Defending against backdoors with robust learning rate", AAAI 2021',
)
@dataclass(frozen=True)
class RobustLearningRate(Coordinatewise):
    """Robust learning rate: the mean, turned around where fewer than theta votes of sign agree.

    Made against backdoors, whose coordinates only the attackers push one way. Lengths are not
    bounded: a single large finite row takes it wherever it likes, as it does the mean, so that it
    lacks `Facts.ROBUST`; clip before it (`Clipping`, `ARC`). With client weights p_i, a vote counts
    n p_i.

    Args:
        f: Number of Byzantine clients, 2f < n.
        theta: Surplus of votes from which a coordinate is believed, f < theta <= n; ``None``:
            f + 1, the least that f clients cannot reach alone. After unusable rows it is at most
            the number of rows left.

    Raises:
        ValueError: ``theta`` is not an integer > f; at the first use theta > n.
        TooManyFaultyClients: At the call, weights with which f clients reach theta.

    Example:
        >>> RobustLearningRate(f=1, theta=3)(torch.tensor([[1.0, 1.0], [2.0, 2.0], [3.0, -6.0]]))
        tensor([2., 1.])
    """

    lacks: ClassVar[Facts] = Facts.TRANSLATES | Facts.AVERAGES | Facts.ROBUST

    theta: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        integer(self, "theta", self.f + 1, none="for f + 1")

    def breakdown(self, n: int) -> int:
        """2f < n."""
        return minority(n)

    def check(self, n: int) -> None:
        """Refuse 2f >= n, and theta > n."""
        super().check(n)
        if self.theta is not None and self.theta > n:
            raise ValueError(f"theta={self.theta} must be at most n={n}")

    def weight_limit(self, n: int) -> float:
        """theta/n, and at most 1/2: f clients must not be believed by their own votes."""
        return min(0.5, self._votes(n, self.f) / n)

    def kappa(self, n: int) -> float | None:  # noqa: ARG002
        """None: lengths are not bounded, and disagreement turns the mean around."""
        return None

    def _votes(self, n: int, f: int) -> int:
        """The theta for n clients of which f may be Byzantine."""
        return f + 1 if self.theta is None else min(self.theta, n)

    def _reduce(self, X: Tensor, f: int, share: FloatArray | None) -> Tensor:
        n = len(X)
        theta = self._votes(n, f)
        largest_share(share, n, f, min(0.5, theta / n))
        mean = weighted_sum(np.full(n, 1 / n) if share is None else share, X)
        believed = sign_votes(X, share).abs_() >= theta - ROUNDING
        return torch.where(believed, mean, -mean)

    def _kept(self, X: Tensor, f: int, share: FloatArray | None) -> FloatArray:  # noqa: ARG002
        """All clients are heard everywhere, if only to be contradicted."""
        n, k = X.shape
        return np.full(n, k / n) if share is None else share * k
