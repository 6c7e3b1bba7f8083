"""What an attacker can achieve: the trade-off curve behind an epsilon, and figures read off it.

Dong, Roth, Su, "Gaussian Differential Privacy", JRSS B 2022. An attacker who decides whether a
record was used, with false alarms at rate alpha, misses it at rate f(alpha) or more; from the
privacy profile delta(e), e >= 0::

    f(alpha) = sup_e max{0, 1 - delta(e) - exp(e) alpha, exp(-e) (1 - delta(e) - alpha)},

and without sampling, where mu^2 = sum_t (Delta / sigma_t)^2,

    f(alpha) = Phi(Phi^-1(1 - alpha) - mu).

His advantage, true minus false positives, is at most delta(0), and for every e at most

    1 - 2 (1 - delta(e)) / (1 + exp(e)).

A profile from above, at any set of epsilons, gives a curve from below: the attacker is never
underrated.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, ndtr, ndtri

from fedsieve.privacy._exact import gaussian_mu
from fedsieve.privacy._pld import pld_profile
from fedsieve.privacy.accounting import GAUSSIAN, NOTHING, PLD, epsilon_of
from fedsieve.privacy.guarantee import (
    Event,
    Relation,
    Unit,
    check_events,
    check_target,
    in_full,
    merge,
)

_POINTS = 2000  # of a profile: the curve between two of them is a line, off by less than 1e-5
_NAMED = 1e-5  # the delta whose accountant gives the curve its name
_DELTAS = np.logspace(-12, -1e-3, 60)  # where Renyi accounting, one search each, is asked


@dataclass(frozen=True)
class TradeOff:
    """The least rate at which an attacker misses what was there, by his rate of false alarms.

    Args:
        relation: Neighbouring relation: which two worlds he has to tell apart.
        unit: What makes the difference between them.
        accountant: Where the curve comes from.
        mu: The parameter of the closed form; ``None`` where sampling or nothing gives no such form.
        profile: (points, 2): pairs (epsilon, delta) that hold.

    Example:
        >>> curve = trade_off([Event(1.0, 1.0, 1)])
        >>> round(float(curve(0.05)), 4), round(curve.advantage, 4), round(curve.best_tpr(0.01), 4)
        (0.7405, 0.3829, 0.0924)
    """

    relation: Relation
    unit: Unit
    accountant: str
    mu: float | None
    profile: NDArray[np.float64]

    def __call__(self, alpha: ArrayLike) -> NDArray[np.float64]:
        """Miss rates for rates of false alarms in [0, 1], of any shape.

        Raises:
            ValueError: A rate outside [0, 1].
        """
        rates = np.asarray(alpha, dtype=np.float64)
        if not np.all((rates >= 0) & (rates <= 1)):
            raise ValueError(f"alpha={alpha!r} must be in [0, 1]")
        if self.mu is not None:
            return np.asarray(ndtr(ndtri(1 - rates) - self.mu))
        epsilon, delta = self.profile.T
        flat = rates.reshape(-1, 1)
        steep = 1 - delta - np.exp(np.minimum(epsilon, 700.0)) * flat
        shallow = np.exp(-epsilon) * (1 - delta - flat)
        best = np.maximum(steep, shallow).max(axis=1, initial=0.0)
        return np.asarray(best.reshape(rates.shape))

    @property
    def advantage(self) -> float:
        """Largest true-positive rate minus false-positive rate, from above; at e = 0 delta(0)."""
        if self.mu is not None:
            return float(2 * ndtr(self.mu / 2) - 1)
        epsilon, delta = self.profile.T
        return float(np.min(1 - 2 * (1 - delta) * expit(-epsilon)))

    def best_tpr(self, fpr: float) -> float:
        """Largest true-positive rate of any attack at this rate of false positives."""
        return float(1 - self(fpr))


def trade_off(
    events: Iterable[Event], relation: Relation = "add-remove", unit: Unit = "record"
) -> TradeOff:
    """The trade-off curve of all events together.

    Args:
        events: What was released.
        relation: Neighbouring relation.
        unit: What is protected.

    Raises:
        ValueError: An unknown relation or unit.
    """
    check_target(0.5, relation, unit)
    merged = merge(events)
    check_events(merged, relation, unit)
    if not merged:
        return TradeOff(relation, unit, NOTHING, None, np.zeros((1, 2)))
    mu = gaussian_mu(merged, relation)
    if mu is not None:
        return TradeOff(relation, unit, GAUSSIAN, mu, np.empty((0, 2)))
    return TradeOff(relation, unit, *_profile(in_full(merged), relation))


@lru_cache(maxsize=16)
def _profile(
    events: tuple[Event, ...], relation: Relation
) -> tuple[str, None, NDArray[np.float64]]:
    plain = all(e.law == "gaussian" and e.sampling == "poisson" for e in events)
    if plain and (pairs := pld_profile(events, relation, _POINTS)) is not None:
        return PLD, None, pairs
    told = [epsilon_of(events, delta, relation) for delta in _DELTAS]
    held = [(one, delta) for (one, _), delta in zip(told, _DELTAS, strict=True)]
    accountant = told[int(np.searchsorted(_DELTAS, _NAMED))][1]
    return accountant, None, np.array([(0.0, 1.0), *sorted(held)])
