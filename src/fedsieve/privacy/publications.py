"""Epsilons of the literature, by the method of their time and by ours.

A published epsilon is repeated here only where we have it first-hand. The others are recomputed at
the publication's setting by the method that it describes, and stand beside ours; what was printed
for them, if anything was, is said to be unknown. The methods are

* the moments accountant: Renyi divergences of the sampled Gaussian, and
  epsilon = D_a + log(1/delta) / (a - 1)   (Abadi et al., "Deep Learning with Differential Privacy",
  CCS 2016; today's conversion is smaller by log(a) / (a - 1) - log(1 - 1/a));
* the bound for samples of fixed size, applied twice: `fedsieve.privacy.dp_scaffold`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fedsieve.privacy._rdp import quietly
from fedsieve.privacy.accounting import epsilon
from fedsieve.privacy.dp_scaffold import DPScaffold
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
        printed: What was read there; ``None`` where we do not know it first-hand.
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

    @property
    def quoted(self) -> str:
        """What was printed, in words."""
        if self.printed is None:
            return "not known to us first-hand, so no figure is quoted; recomputed instead"
        return f"epsilon = {self.printed:g}"


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
    """The authors' settings."""
    source = "Noble, Bellet, Dieuleveut, AISTATS 2022: DP-SCAFFOLD"
    for T in (100, 400):
        run = DPScaffold(1.0, 60.0, data_rate=0.2, user_rate=0.2, local_steps=50, rounds=T,
                         users=100, records=4000)  # fmt: skip
        delta = 1 / (run.users * run.records)
        name = f"sigma_g = 60, K = 50, {T} rounds"
        ours = run.guarantee(delta)
        yield Published(name, source, None, run.published(delta), FIXED_SIZE, ours, _FIXED)
