"""Renyi divergences of Gaussian releases under random allocation, exactly and in both directions.

Feldman and Shenfeld, "Privacy Amplification by Random Allocation" (2025). An epoch has t steps, and
every record takes part in one of them, drawn uniformly and independently of all others.

*One pair of laws stands for an epoch.* Let Q be the law of the t messages without a record, P the
law with it, given the draws of all other records (which are the same in both worlds), and g_i, of
norm at most 1 in units of the clip, what the record would add to step i after the messages before.
Then ::

    P / Q = M = (1/t) sum_i L_i,    L_i = exp(<g_i, z_i> / sigma^2 - |g_i|^2 / (2 sigma^2)),

with z_i the noise that message i would consist of under Q. A vector shorter than 1 is made up to 1
in a coordinate of its own, which only tells more. g_i depends on earlier messages alone and z_i is
independent of them, so under Q the <g_i, z_i> / sigma are independent standard normal, whatever the
g_i: adaptive queries have the likelihood ratio, hence every divergence, of fixed orthogonal ones.

*With the record against without it*, at an integer order a (Theorem of the paper; multinomially)::

    E_Q[M^a] = a! / t^a [x^a] ( sum_k x^k / k! exp(k (k-1) / (2 sigma^2)) )^t.

*Without against with*, at an order a = s + 1, is E_Q[M^-s]. From M^-s Gamma(s) being the integral
of u^(s-1) exp(-u M) over u > 0, and the L_i being independent::

    E_Q[M^-s] = 1 / Gamma(s)  integral over x of  exp(s x) phi(exp(x) / t)^t,
    phi(v) = E[exp(-v L)].

Both integrals (that of x, and the normal one in phi) are of analytic functions over the whole line,
for which the trapezoidal rule converges exponentially: its error here is below e^-30 of the value,
and `_SLACK` covers it together with the rounding. Where the integral does not fit the range, at
orders at which next to nothing is hidden, the bound that follows from M >= prod_i L_i^(1/t) (the
inequality of the means; also in the paper) takes over::

    D_a(Q || P) <= (a + t - 1) / (2 t sigma^2).

Neither direction exceeds that of a Gaussian release in a known step, by convexity.

Two epochs compose as two releases do, because their draws are independent.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp

MOST_ORDER = 256
"""Largest order with amplification; beyond it the release in a known step is the bound."""

_LEAST_NOISE = 0.2
"""Below it e^(1 / sigma^2) exceeds any number of steps, and a secret step hides next to nothing."""

_MOST_NOISE = 1e6

_SLACK = 1e-11
"""Added to log E[M^a], relatively and absolutely."""

_FALLEN = 45.0  # an integrand that has fallen by e^-45 has been integrated
_ROWS = 256  # of the matrix of v and W at a time
_COARSE = 1 / 32  # of x: exp(-2 pi^2 / (h^2 s)) is the error for exp(s x - e^x)

Moments = NDArray[np.float64]
"""log E of a power of the likelihood ratio, at the orders 0, 1, ..., MOST_ORDER."""


@lru_cache(maxsize=256)
def allocation_moments(noise_multiplier: float, batches: int) -> tuple[Moments, Moments]:
    """(a - 1) D_a(P || Q) and (a - 1) D_a(Q || P) of one epoch, from above, for 0 <= a <= 256.

    Args:
        noise_multiplier: sigma, > 0.
        batches: t, steps of an epoch, >= 1.
    """
    noise_multiplier = min(noise_multiplier, _MOST_NOISE)  # from above
    orders = np.arange(MOST_ORDER + 1.0)
    half = 0.5 / noise_multiplier / noise_multiplier
    known = np.where(
        orders > 1, orders * (orders - 1) * min(half, 1e300), 0.0
    )  # released in a step that is known
    if batches == 1 or noise_multiplier < _LEAST_NOISE:
        return known, known
    with_against_without = _powers(known, batches)
    means = (orders - 1) * (orders + batches - 1) / batches * half
    exact = np.append([0.0, 0.0], _inverse_powers(noise_multiplier, batches))
    one = np.minimum(with_against_without * (1 + _SLACK) + _SLACK, known)
    return one, np.minimum(exact * (1 + _SLACK) + _SLACK, means)


def allocation_rdp(noise_multiplier: float, batches: int, order: int) -> float:
    """Renyi divergence of one epoch at an integer order >= 2, the larger of both directions."""
    if order > MOST_ORDER:
        return order * (0.5 / noise_multiplier / noise_multiplier)
    return float(max(m[order] for m in allocation_moments(noise_multiplier, batches)) / (order - 1))


def _powers(known: Moments, t: int) -> Moments:
    """Logarithms of E_Q[M^a], a = 0, 1, ...: the t-th power of a series, all terms > 0."""
    orders = np.arange(len(known))
    shared = gammaln(orders + 1.0) - orders * math.log(t)
    square, power = known - gammaln(orders + 1.0), np.where(orders == 0, 0.0, -np.inf)
    for bit in reversed(f"{t:b}"):
        power = _product(power, square) if bit == "1" else power
        square = _product(square, square)
    return np.asarray(power + shared)


def _product(one: Moments, other: Moments) -> Moments:
    """Coefficients of the product of two series, all given by their logarithms."""
    n = len(one)
    places = np.arange(n)[:, None] - np.arange(n)
    terms = one + np.where(places >= 0, other[places], -np.inf)
    return np.asarray(logsumexp(terms, axis=1))


def _inverse_powers(sigma: float, t: int) -> Moments:
    """Logarithms of E_Q[M^-s], s = 1, ..., MOST_ORDER - 1; infinite where it does not fit."""
    x = np.arange(-_FALLEN, 15.0 + 6 / sigma + 0.5 / sigma**2, _COARSE)
    log_phi_t = t * _log_laplace(np.exp(x) / t, sigma)
    s = np.arange(1.0, MOST_ORDER)
    moments = np.full(len(s), np.inf)
    for i, power in enumerate(s):
        integrand = power * x + log_phi_t
        if integrand[-1] < integrand.max() - _FALLEN:
            moments[i] = logsumexp(integrand) + math.log(_COARSE) - gammaln(power)
    return moments


def _log_laplace(v: Moments, sigma: float) -> Moments:
    """Logarithm of phi(v); L = exp(W / sigma - 1 / (2 sigma^2)) with W standard normal."""
    step = min(sigma / 12, 0.25)  # far below the pi sigma / 2 over which the integrand is tame
    w = np.arange(-37.0, 12.0, step)
    weight = np.exp(-w * w / 2) * (step / math.sqrt(2 * math.pi))
    loss = np.exp(np.minimum(w / sigma - 0.5 / sigma**2, 600.0))
    found = np.empty_like(v)
    for start in range(0, len(v), _ROWS):
        rows = slice(start, start + _ROWS)
        exponent = -np.minimum(v[rows, None] * loss, 745.0)
        lost = np.expm1(exponent) @ weight  # phi - 1, exact where phi is close to 1
        near = np.log1p(np.maximum(lost, -0.9))
        far = np.log(np.maximum(np.exp(exponent) @ weight, 1e-300))
        found[rows] = np.where(far > -0.5, near, far)
    return found
