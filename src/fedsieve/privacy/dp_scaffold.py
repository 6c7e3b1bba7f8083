"""DP-SCAFFOLD: what a user releases in K local steps, and what it costs.

M. Noble, A. Bellet, A. Dieuleveut, "Differentially Private Federated Learning on Heterogeneous
Data", AISTATS 2022. In a round, l M of the M users take part. User i holds R records and draws s R
of them in every one of its K steps::

    H_k = (1 / (s R)) sum_j clip(g_j, C) + N(0, (2 C sigma_g / (s R))^2 I)
    y <- y - eta_l (H_k - c_i + c)
    send Delta y = -eta_l sum_k (H_k - c_i + c),    Delta c = (1/K) sum_k H_k - c_i

Both messages are functions of the K noisy gradients, of older ones (c_i) and of what the server
said: the model update and the control variate cost no more than the gradients, K releases a round.
So does a round of the warm start, which sends (1/K) sum_k H_k alone. Neighbours differ in one
record of one user, replaced by another; it moves H_k by at most 2 C / (s R). (The paper's public
code adds half this noise, at a clip taken from the batch; no figure here is about that.)

The paper's accounting composes Renyi divergences at integer orders a: K sub-samplings with s, then
T with l, each by Theorem 9 of Wang, Balle, Kasiviswanathan, "Subsampled Renyi Differential Privacy
and Analytical Moments Accountant", AISTATS 2019, for draws of fixed size without replacement::

    (a-1) e'(a) = log(1 + g^2 C(a,2) min(4 (exp(e(2)) - 1), 2 exp(e(2)))
                        + sum_{j=3}^a 2 g^j C(a,j) exp((j-1) e(j))),    g = s or l,

and epsilon = min_a e(a) + log(1/delta) / (a - 1). Towards the server it has sigma_g and no l: the
server knows who takes part. Towards a third party, who sees nothing but averages, it has sigma_g
sqrt(l M). That figure is given here as published and is no guarantee of ours: for K > 1 a user goes
on from its own noisy gradient, not from the average, so the first noise a record meets is sigma_g,
and what it changes in all later gradients of that user is not counted (the tests show a case); and
c_i appears in a later average once more. What holds towards the server holds towards everybody, and
`DPScaffold.guarantee` is that, by this library's accountant and for Poisson draws.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp

from fedsieve.privacy.accounting import epsilon
from fedsieve.privacy.gaussian import GaussianMechanism
from fedsieve.privacy.guarantee import Guarantee, Relation, check_target

Observer = Literal["third-party", "server"]
"""Who sees averages over the users that take part, or every message."""

ORDERS = np.arange(2, 257)
"""Of the divergences; the published script stops at 100. Orders between two integers, of which it
tries some too, are never better: the bound is monotone there."""


@dataclass(frozen=True)
class DPScaffold:
    """The privacy settings of a DP-SCAFFOLD run, equal for all users.

    Args:
        clip: C, norm that no record's gradient exceeds, > 0.
        sigma_g: Noise standard deviation of H_k over its sensitivity 2 C / (s R), > 0.
        data_rate: s, share of a user's records in one step, in (0, 1].
        user_rate: l, share of the users in one round, in (0, 1].
        local_steps: K >= 1.
        rounds: T >= 1.
        users: M >= 1.
        records: R >= 1, public number of a user's records.

    Raises:
        ValueError: An argument outside these ranges.

    Example:
        >>> run = DPScaffold(1.0, 60.0, data_rate=0.2, user_rate=0.2, local_steps=50, rounds=100,
        ...                  users=100, records=4000)
        >>> round(run.published(1 / (100 * 4000)), 2)
        8.19
        >>> round(run.guarantee(1 / (100 * 4000), participations=20).epsilon, 2)
        0.4
    """

    clip: float
    sigma_g: float
    data_rate: float
    user_rate: float
    local_steps: int
    rounds: int
    users: int
    records: int

    def __post_init__(self) -> None:
        for name in ("clip", "sigma_g"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name}={value} must be finite and > 0")
        for name in ("data_rate", "user_rate"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} must be in (0, 1]")
        for name in ("local_steps", "rounds", "users", "records"):
            value = getattr(self, name)
            if value != int(value) or value < 1:
                raise ValueError(f"{name}={value} must be an integer >= 1")

    @property
    def noise_std(self) -> float:
        """Standard deviation of the noise on each number of H_k, 2 C sigma_g / (s R)."""
        return self.mechanism.noise_std

    @property
    def mechanism(self) -> GaussianMechanism:
        """The noise of one local step, as the ``scaffold`` algorithm adds it.

        Its noise multiplier is over the clip C, and twice sigma_g, which is over 2 C.
        """
        return GaussianMechanism(self.clip, 2 * self.sigma_g, self.data_rate * self.records)

    def published(self, delta: float, observer: Observer = "third-party") -> float:
        """Epsilon by the paper's accounting, replacing one record, for draws of fixed size.

        Towards a third party it is a figure to compare with, not a guarantee: see above.

        Args:
            delta: In (0, 1); the paper's script has 1 / (M R).
            observer: ``third-party`` or ``server``.

        Raises:
            ValueError: An argument outside these ranges.
        """
        check_target(delta, "replace-one")
        if observer not in get_args(Observer):
            raise ValueError(f"observer={observer!r} is not one of {', '.join(get_args(Observer))}")
        averaged = self.user_rate * self.users if observer == "third-party" else 1.0
        round_ = self.local_steps * without_replacement(
            ORDERS / (2 * self.sigma_g**2 * averaged), self.data_rate
        )
        if observer == "third-party":
            round_ = without_replacement(round_, self.user_rate)
        return float(np.min(self.rounds * round_ + math.log(1 / delta) / (ORDERS - 1)))

    def guarantee(
        self, delta: float, participations: int | None = None, relation: Relation = "replace-one"
    ) -> Guarantee:
        """What holds for one user towards the server, and so towards everybody, by this library.

        Every participation is K Poisson-sampled releases; nothing is gained from the rounds in
        which the server does not ask.

        Args:
            delta: In (0, 1).
            participations: Rounds in which the user took part, 0 to T; ``None``: all of them.
            relation: Neighbouring relation; the paper's is ``replace-one``.

        Raises:
            ValueError: An argument outside these ranges.
        """
        took_part = self.rounds if participations is None else participations
        if took_part != int(took_part) or not 0 <= took_part <= self.rounds:
            raise ValueError(
                f"participations={participations} must be an integer in 0..{self.rounds}"
            )
        steps = self.local_steps * took_part
        return epsilon(2 * self.sigma_g, self.data_rate, steps, delta, relation)


def without_replacement(divergences: NDArray[np.float64], rate: float) -> NDArray[np.float64]:
    """Renyi divergences of a mechanism that sees a random subset of fixed size.

    Args:
        divergences: Of the mechanism on the subset, e(a) > 0 at orders a = 2, 3, ...
        rate: Share of all records (or users) in the subset, in (0, 1].

    Returns:
        e'(a) at the same orders, by the Theorem 9 above.

    Example:
        >>> without_replacement(np.array([0.02, 0.03]), 0.1).round(5)
        array([0.00081, 0.00227])
    """
    j = np.arange(2, len(divergences) + 2)
    a = j[:, None]
    moments = math.log(2) + (j - 1) * divergences
    at_two = divergences[0]
    # log(4 (e^x - 1)) without overflow
    moments[0] = min(math.log(4) + at_two + math.log(-math.expm1(-at_two)), math.log(2) + at_two)
    log_choose = gammaln(a + 1) - gammaln(j + 1) - gammaln(np.maximum(a - j, 0) + 1)
    terms = np.where(j <= a, log_choose + j * math.log(rate) + moments, -np.inf)
    cgf = np.logaddexp(0, logsumexp(terms, axis=1))
    return np.asarray(cgf / (j - 1))
