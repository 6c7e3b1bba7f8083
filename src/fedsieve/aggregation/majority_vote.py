"""signSGD with majority vote.

Bernstein, Zhao, Azizzadenesheli, Anandkumar, "signSGD with majority vote is communication efficient
and fault tolerant", ICLR 2019. Of every coordinate only the sign is heard:

    R(x) = sign(sum_i sign(x_i)),

the coordinatewise median of the signs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from fedsieve.aggregation._coordinatewise import ROUNDING, Coordinatewise, sign_votes
from fedsieve.aggregation._door import FloatArray
from fedsieve.aggregation._sorting import blocks
from fedsieve.aggregation.facts import Facts
from fedsieve.aggregation.rule import largest_share, minority
from fedsieve.registry import register


@register(
    "rule", "majority-vote", paper='Bernstein et al., "signSGD with majority vote", ICLR 2019'
)
@dataclass(frozen=True)
class MajorityVote(Coordinatewise):
    """Majority vote of the signs: +1, -1, or 0 where the votes are even; lengths are not heard.

    Not an average: under heterogeneity descent along it stops where signs balance, not where the
    mean gradient vanishes. Client weights are the weights of the votes.

    Args:
        f: Number of Byzantine clients, 2f < n.

    Example:
        >>> import torch
        >>> MajorityVote(f=1)(torch.tensor([[0.1, -5.0], [0.2, 1.0], [-9.0, -2.0]]))
        tensor([ 1., -1.])
    """

    lacks: ClassVar[Facts] = (
        Facts.TRANSLATES | Facts.SCALES | Facts.UNANIMOUS | Facts.AVERAGES
    )  # it hears no lengths

    def breakdown(self, n: int) -> int:
        """2f < n."""
        return minority(n)

    def kappa(self, n: int) -> float | None:  # noqa: ARG002
        """None: it does not estimate the mean."""
        return None

    def _reduce(self, X: Tensor, f: int, share: FloatArray | None) -> Tensor:
        largest_share(share, len(X), f)  # refuses weights that leave no majority
        votes = sign_votes(X, share)
        return votes.masked_fill_(votes.abs() < ROUNDING, 0).sign_().to(X.dtype)

    def _kept(self, X: Tensor, f: int, share: FloatArray | None) -> FloatArray:
        """A client is kept where it votes as the majority; where nobody does, everybody is."""
        winner = self._reduce(X, f, share)
        n, k = X.shape
        weight = np.ones(n) if share is None else share
        kept = np.zeros(n)
        for columns in blocks(0, k, n):
            with_majority = (X[:, columns].sign() == winner[columns]).cpu().numpy()
            held = with_majority * weight[:, None]
            nobody = held.sum(axis=0) == 0
            held[:, nobody] = weight[:, None]
            kept += (held / held.sum(axis=0)).sum(axis=1)
        return kept
