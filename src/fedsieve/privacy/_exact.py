"""Gaussian releases without sampling, exactly.

Balle and Wang, "Improving the Gaussian Mechanism for Differential Privacy", ICML 2018, Theorem 8;
the composition is one Gaussian mechanism (Dong, Roth, Su, "Gaussian Differential Privacy", JRSS B
2022)::

    mu^2 = sum_t (Delta / sigma_t)^2,
    delta(eps) = Phi(-eps/mu + mu/2) - e^eps Phi(-eps/mu - mu/2).

With x = eps/mu - mu/2, u = x / sqrt 2 and m = mu / sqrt 2,

    delta = e^(-x^2/2) (erfcx(u) - erfcx(u + m)) / 2,

in which nothing overflows. For a small mu the difference is an integral of the positive function
-erfcx'(t) = 2 / sqrt pi - 2 t erfcx(t) over an interval of length m, which Gauss's rule gives to
full precision where subtraction would leave nothing: delta is right to `_SLACK` of its size, at any
mu. Epsilon is then moved up until delta holds with that to spare.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import brentq
from scipy.special import erfcx, ndtr, ndtri

from fedsieve.privacy.guarantee import Event, Relation, sensitivity

_SLACK = 1e-12  # relative, of delta; measured against 60 digits: 1e-13
_NODES, _WEIGHTS = (x / 2 for x in np.polynomial.legendre.leggauss(12))
_LEAST = 1e-300  # delta below which floats lose digits


def gaussian_mu(events: tuple[Event, ...], relation: Relation) -> float | None:
    """The mu of Gaussian releases without sampling; ``None`` if one is sampled, or of integers."""
    if not events or any(e.sampled or e.law != "gaussian" for e in events):
        return None
    moved = sensitivity(relation)
    ratios = [(e.steps, moved / e.noise_multiplier) for e in events]
    square = sum(steps * (ratio * ratio) for steps, ratio in ratios)
    if 1e-280 < square < math.inf:
        return math.sqrt(square)
    return math.hypot(*(math.sqrt(steps) * ratio for steps, ratio in ratios))


def gaussian_epsilon(mu: float, delta: float) -> float:
    """The smallest epsilon >= 0 of a mu-GDP mechanism, from above by next to nothing."""
    if math.isinf(mu * mu) or delta < _LEAST:
        return math.inf
    if _delta_at(-mu / 2, mu) * (1 + _SLACK) <= delta:
        return 0.0
    # beyond the normal quantile delta holds already without the second term
    high = max(-float(ndtri(delta)), -mu / 2)
    low = max(-mu / 2, -37.0)  # Phi(37) is 1: below lies no delta < 1

    def excess(x: float) -> float:
        return math.log(max(_delta_at(x, mu), 5e-324)) - math.log(delta)

    x, step = high, 1e-13
    if low < high and excess(low) > 0 > excess(high):
        x = brentq(excess, low, high, xtol=1e-13)
    while _delta_at(x, mu) * (1 + _SLACK) > delta:
        x, step = x + step, 2 * step
    return max(mu * x + mu * mu / 2, 0.0) * (1 + _SLACK)


def gaussian_delta(mu: float, epsilon: float) -> float:
    """delta(epsilon) of a mu-GDP mechanism."""
    return _delta_at(epsilon / mu - mu / 2, mu)


def _delta_at(x: float, mu: float) -> float:
    u, m = x / math.sqrt(2), mu / math.sqrt(2)
    scale = math.exp(-x * x / 2) / 2
    if mu > 1:
        return max(float(ndtr(-x)) - scale * float(erfcx(u + m)), 0.0)
    t = u + m * (0.5 + _NODES)
    slope = 2 / math.sqrt(math.pi) - 2 * t * erfcx(t)
    return scale * m * float(_WEIGHTS @ slope)
