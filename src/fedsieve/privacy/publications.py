"""Epsilons of the literature, by the method of their time and by ours.

A published epsilon is repeated here only where it was read in the publication; the others are
recomputed by the method that the publication describes, and stand beside ours. The methods are

* the moments accountant: Renyi divergences of the sampled Gaussian, and
  epsilon = D_a + log(1/delta) / (a - 1)   (Abadi et al., "Deep Learning with Differential Privacy",
  CCS 2016; today's conversion is smaller by log(a) / (a - 1) - log(1 - 1/a));
* the bound for samples of fixed size, g of the records, and any mechanism of divergences D_j
  (Wang, Balle, Kasiviswanathan, "Subsampled Renyi Differential Privacy and Analytical Moments
  Accountant", AISTATS 2019, Theorem 9), which DP-SCAFFOLD (Noble, Bellet, Dieuleveut, AISTATS 2022)
  applies twice, to the records in K local steps and then to the clients in T rounds:

    (a-1) D'_a = log( 1 + g^2 C(a,2) min(4 (e^D_2 - 1), 2 e^D_2)
                        + sum_{j=3..a} 2 g^j C(a,j) e^((j-1) D_j) ).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from scipy.special import gammaln, logsumexp

from fedsieve.privacy._rdp import quietly
from fedsieve.privacy.accounting import epsilon
from fedsieve.privacy.guarantee import Event, Guarantee

MOMENTS = "moments accountant"
FIXED_SIZE = "bound for samples of fixed size, twice"

_LOOSER = (
    "the same releases: moments up to a fixed order and their conversion to epsilon lose what loss "
    "distributions keep"
)
_FIXED = (
    "that bound costs a factor at every order and allows few of them, although it counts the noise "
    "of a whole round and the sampling of clients, for who sees averages only (which is no "
    "guarantee where a client goes on from its own noisy gradients); ours counts neither and holds "
    "against the server, with the records' samples taken as Poisson samples"
)


@dataclass(frozen=True)
class Published:
    """An epsilon of a publication.

    Args:
        name: The setting.
        source: Where it stands.
        printed: What was read there; ``None`` where it was not read.
        theirs: Recomputed by the publication's method,
        method: whose name this is.
        ours: What holds by our accountant, with relation, delta and all else.
        gap: Why they differ.
    """

    name: str
    source: str
    printed: float | None
    theirs: float
    method: str
    ours: Guarantee
    gap: str


def published() -> Iterator[Published]:
    """Every published epsilon that we recompute.

    Example:
        >>> first = next(published())
        >>> f"{first.theirs:.3f} by the {first.method}, {first.ours.epsilon:.3f} by ours"
        '1.259 by the moments accountant, 0.947 by ours'
    """
    abadi = "Abadi et al., CCS 2016: DP-SGD"
    yield _moments("q = 0.01, sigma = 4, 10000 steps", abadi, None, (4.0, 0.01, 10_000))
    bu, q = "Bu, Dong, Long, Su, HDSR 2020, figure 4", 256 / 60_000
    for sigma, epochs, printed in ((1.3, 20, 1.34), (0.7, 70, 8.68)):
        steps = round(epochs / q)
        name = f"MNIST, q = 256/60000, sigma = {sigma}, {epochs} epochs"
        yield _moments(name, bu, printed, (sigma, q, steps))
    yield from _scaffold()


def moments_epsilon(event: Event, delta: float, orders: Sequence[float]) -> float:
    """Epsilon of the moments accountant.

    Args:
        event: Gaussian releases, add-remove.
        delta: In (0, 1).
        orders: Of the divergences, > 1.01.
    """
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
    from dp_accounting.rdp import RdpAccountant

    sampled = PoissonSampledDpEvent(event.sampling_rate, GaussianDpEvent(event.noise_multiplier))

    def at(a: float) -> float:
        accountant = RdpAccountant([a]).compose(sampled, event.steps)
        return float(accountant.get_epsilon(delta)) + math.log(a) / (a - 1) - math.log1p(-1 / a)

    with quietly():
        return min(at(a) for a in orders)


def fixed_size_epsilon(
    noise_multiplier: float,
    rate: float,
    local_steps: int,
    participation: float,
    rounds: int,
    delta: float,
) -> float:
    """Epsilon of DP-SCAFFOLD's method against who sees the aggregates, replace-one.

    Args:
        noise_multiplier: Noise standard deviation of an aggregate over its sensitivity, > 0.
        rate: Share of a client's records in a sample, in (0, 1).
        local_steps: K.
        participation: Share of the clients in a round, in (0, 1).
        rounds: T.
        delta: In (0, 1).
    """

    def step(a: int) -> float:
        return a / (2 * noise_multiplier**2)

    @lru_cache
    def round_(a: int) -> float:
        return local_steps * _fixed_size(step, rate, a)

    return min(
        rounds * _fixed_size(round_, participation, a) + math.log(1 / delta) / (a - 1)
        for a in range(2, 101)
    )


def _fixed_size(D: Callable[[int], float], g: float, a: int) -> float:
    """D'_a of the bound for samples of fixed size."""

    def log_choose(j: int) -> float:
        return float(gammaln(a + 1) - gammaln(j + 1) - gammaln(a - j + 1))

    second = min(math.log(4 * math.expm1(D(2))), math.log(2) + D(2))
    terms = [0.0, 2 * math.log(g) + log_choose(2) + second]
    terms += [
        math.log(2) + j * math.log(g) + log_choose(j) + (j - 1) * D(j) for j in range(3, a + 1)
    ]
    return float(logsumexp(terms)) / (a - 1)


def _moments(
    name: str, source: str, printed: float | None, job: tuple[float, float, int]
) -> Published:
    # integer orders up to 33 in 2016; the libraries that the later figures came from add fractions
    orders: list[float] = [float(a) for a in range(2, 34)]
    if printed is not None:
        orders += [1 + x / 10 for x in range(1, 100)]
    theirs = moments_epsilon(Event(*job), 1e-5, orders)
    return Published(name, source, printed, theirs, MOMENTS, epsilon(*job, 1e-5), _LOOSER)


def _scaffold() -> Iterator[Published]:
    """The authors' settings: noise on a mean of s R gradients with sensitivity 2 C / (s R)."""
    source = "Noble, Bellet, Dieuleveut, AISTATS 2022: DP-SCAFFOLD"
    M, R, K, share, sigma_g = 100, 4000, 50, 0.2, 60.0
    delta, seen = 1 / (M * R), sigma_g * math.sqrt(share * M)
    for T in (100, 400):
        theirs = fixed_size_epsilon(seen, share, K, share, T, delta)
        # over the clip, which a replaced record moves the sum by twice, sigma_g is 2 sigma_g
        ours = epsilon(2 * sigma_g, share, K * T, delta, "replace-one")
        name = f"sigma_g = 60, K = 50, {T} rounds"
        yield Published(name, source, None, theirs, FIXED_SIZE, ours, _FIXED)
