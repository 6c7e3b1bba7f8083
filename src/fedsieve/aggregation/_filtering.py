"""What the spectral filters of Zhu et al. share: settings, and turns that end when all is calm.

Zhu, Pang, Wang, Wang, Jiao, Song, Jordan, "Byzantine-robust federated learning with optimal
statistical rates", AISTATS 2023. At most 2f times, with (lambda, v) the top eigenpair of the
covariance weighted by c: stop if lambda <= expansion * sigma^2, else take mass off the clients that
lie far along v. How, is what the filters differ in.

A turn takes a bounded number of products of the Gram with a vector (``_spectral``), so that no rows
wear the server out: 1000 rows with f = 200, all of whose 400 turns are taken, cost less than two
seconds of one core after the Gram, be they noise or at right angles to each other.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

from fedsieve._arguments import real
from fedsieve.aggregation._door import FloatArray
from fedsieve.aggregation._gram import GramRule
from fedsieve.aggregation._spectral import Turns
from fedsieve.aggregation.facts import Facts
from fedsieve.aggregation.rule import minority

LARGEST = sys.float_info.max
Step = Callable[[FloatArray, FloatArray], FloatArray]


@dataclass(frozen=True)
class SpectralFilter(GramRule):
    """A filter that takes mass off clients along the top principal direction.

    Args:
        f: Number of Byzantine clients, 2f < n; the paper's rate is for small f/n.
        sigma: Standard deviation of honest messages along any direction, >= 0; 0 if unknown: the
            filter then takes all of its turns.
        expansion: How many times sigma^2 the top variance may be, > 0.

    Raises:
        ValueError: An argument out of range, or at the first use 2f >= n.
    """

    sigma: float = 0.0
    expansion: float = 20.0

    def __post_init__(self) -> None:
        super().__post_init__()
        real(self, "sigma", least=0)
        real(self, "expansion", above=0)

    @property
    def facts(self) -> Facts:
        """A known sigma is a scale of its own."""
        return super().facts & ~(Facts.SCALES if self.sigma else Facts.NONE)

    def breakdown(self, n: int) -> int:
        """2f < n."""
        return minority(n)

    def kappa(self, n: int) -> float | None:  # noqa: ARG002
        """0 for f = 0; otherwise none: the published bound is a statistical rate, up to order."""
        return 0.0 if self.f == 0 else None

    def _at(self, scale: float) -> SpectralFilter:
        return self if scale == 1 else replace(self, sigma=min(self.sigma / scale, LARGEST))

    def _turned(self, G: FloatArray, c: FloatArray, f: int, step: Step) -> FloatArray:
        """The shares c after at most 2f turns of ``c <- step(c, tau)``.

        A step that leaves no mass at all ends them: all rows are equally far, none is to blame.
        """
        turns = Turns(G)
        for _ in range(2 * f):
            along = turns.spread(c)
            if along.none or along.variance <= self.expansion * (self.sigma * self.sigma):
                break
            stepped = step(c, along.tau)
            if stepped.sum() == 0:
                break
            c = stepped / stepped.sum()
        return c
