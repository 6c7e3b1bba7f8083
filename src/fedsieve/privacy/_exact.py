"""Gaussian releases without sampling, exactly.

Balle and Wang, "Improving the Gaussian Mechanism for Differential Privacy", ICML 2018, Theorem 8;
the composition is one Gaussian mechanism (Dong, Roth, Su, "Gaussian Differential Privacy", JRSS B
2022)::

    mu^2 = sum_t (Delta / sigma_t)^2,
    delta(eps) = Phi(-eps/mu + mu/2) - e^eps Phi(-eps/mu - mu/2).

With x = eps/mu - mu/2 the second term is exp(-x^2/2) erfcx((x + mu)/sqrt 2) / 2: nothing overflows
and nothing large is subtracted, however large mu is.
"""

from __future__ import annotations

import math

from scipy.optimize import brentq
from scipy.special import erfcx, ndtr, ndtri

from fedsieve.privacy.guarantee import Event, Relation, sensitivity

_SLACK = 1e-9  # relative; the root and the functions above are off by far less


def gaussian_mu(events: tuple[Event, ...], relation: Relation) -> float | None:
    """The mu of Gaussian releases without sampling; ``None`` if one is sampled, or of integers."""
    if not events or any(e.sampled or e.law != "gaussian" for e in events):
        return None
    moved = sensitivity(relation)
    return math.sqrt(sum(e.steps * (moved / e.noise_multiplier) ** 2 for e in events))


def gaussian_epsilon(mu: float, delta: float) -> float:
    """The smallest epsilon >= 0 of a mu-GDP mechanism, rounded up by 1e-9 of its size."""
    if _delta_at(-mu / 2, mu) <= delta:
        return 0.0
    # beyond the normal quantile delta holds already without the second term
    high = max(-float(ndtri(delta)), -mu / 2)
    low = max(-mu / 2, -37.0)  # Phi(37) is 1: below lies no delta < 1
    x = high if high <= low else brentq(lambda x: _delta_at(x, mu) - delta, low, high, xtol=1e-13)
    return max(mu * x + mu * mu / 2, 0.0) * (1 + _SLACK)


def gaussian_delta(mu: float, epsilon: float) -> float:
    """delta(epsilon) of a mu-GDP mechanism."""
    return _delta_at(epsilon / mu - mu / 2, mu)


def _delta_at(x: float, mu: float) -> float:
    second = math.exp(-x * x / 2) * float(erfcx((x + mu) / math.sqrt(2))) / 2
    return max(float(ndtr(-x)) - second, 0.0)
