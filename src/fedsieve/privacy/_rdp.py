"""Renyi accounting, for where a loss distribution's grid would be too large.

dp-accounting converts divergences to epsilon. The divergences themselves are computed here: the
library has none of Poisson sampling under replace-one or of integer noise, and under add-remove it
leaves out the orders at which its series does not converge.

Add-remove: Mironov, Talwar, Zhang, "Renyi Differential Privacy of the Sampled Gaussian Mechanism"
(2019), Theorems 4 and 5: (1-q) N(0) + q N(1) against N(0) is the worst case, in this direction.

Replace-one: with a record x in one world and x' in its place in the other, given the draws of all
others, a step is a release of (1-q) N(0) + q N(g) against (1-q) N(0) + q N(g'), |g| = |g'| = 1 (a
shorter vector is made up to 1 in a coordinate of its own, which only tells more). The worst case is
g' = -g: under N(0), hockey-stick divergences are expectations of

    h(q e^U - gamma q e^V - c),    h(y) = max(y, 0),    c = (gamma - 1) (1 - q),

with normal U, V whose only free parameter is their correlation <g, g'>. The mixed derivative in U
and V is -h'' gamma q^2 e^(U + V) <= 0, so that the expectation decreases in the correlation
(Plackett's identity). This one pair of laws thus dominates all others, under composition too.

Divergences of a pair, at any order, are integrals over one number of functions that are analytic
within pi sigma of the real line: the trapezoidal rule is exact to rounding, which `_SLACK` covers.

Integer noise has no such pair. There replace-one goes through the data set without the unit by the
weak triangle inequality (Mironov, "Renyi Differential Privacy", CSF 2017, Proposition 11 with
p = q = 2):

    D_a(P || R) <= (a - 1/2)/(a - 1) D_2a(P || Q) + D_(2a-1)(Q || R).

Integer noise Z on a lattice, Poisson sampled, has at an integer order a the divergence of the
sampled Gaussian, or less. With Q the law of the integers without the unit, P = Q moved by an
integer vector v, L = P / Q and A = (1 - q) Q + q P,

    E_Q[(A / Q)^a] = sum_j C(a, j) (1-q)^(a-j) q^j E_Q[L^j],    E_Q[L^j] = exp((j-1) D_j(P || Q)),

and D_j <= j / (2 sigma^2) for the discrete Gaussian (Canonne, Kamath, Steinke 2020, Proposition 5,
added up over the coordinates). That is the direction A || Q. The other one is smaller: Z is
symmetric, so z -> v - z exchanges P and Q, and Theorem 5 of Mironov, Talwar and Zhang needs no more
than that. For Skellam noise of variance V on integers, D_j exceeds the Gaussian's by a share of at
most (2j + 5)/(2 j V) (its stated bound with D1 <= D2^2), which is largest at j = 2: 9/(4V).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache

import numpy as np
from scipy.special import gammaln, logsumexp

from fedsieve.privacy._allocation import allocation_rdp
from fedsieve.privacy.guarantee import Event, Relation

ORDERS = tuple(range(2, 65)) + tuple(2**i for i in range(7, 11))
"""At which the divergences of integer noise are taken."""

_OTHERS = (*(1 + 2.0**-i for i in range(4, 7)), *(a / 8 for a in range(9, 97) if a % 8),
           *(2.0**i for i in range(11, 18)))  # fmt: skip
_FARTHEST = 2000.0  # standard deviations of the noise that an integral may reach
_LEAST_NOISE = 0.1  # below it, what is known of the draws hides nothing (`fedsieve.privacy._known`)
_MOST_NOISE = 1e6  # beyond it the divergences are those of this noise, or less
_LEAST_RATE = 1e-30
_SLACK = 1e-13  # of the logarithm of E[L^a], relatively and absolutely


def rdp_epsilon(events: tuple[Event, ...], delta: float, relation: Relation) -> float:
    """Upper bound of epsilon from the Renyi divergences of Gaussian events."""
    if any(e.noise_multiplier < _LEAST_NOISE for e in events):
        return math.inf
    events = tuple(
        replace(
            e,
            noise_multiplier=min(e.noise_multiplier, _MOST_NOISE),
            sampling_rate=max(e.sampling_rate, _LEAST_RATE),
        )
        for e in events
    )
    least = min(e.noise_multiplier for e in events)
    orders = [a for a in (*ORDERS, *_OTHERS) if a <= _FARTHEST * least]
    apart = relation == "replace-one"
    divergences = [sum(e.steps * gaussian_rdp(e, a, apart) for e in events) for a in orders]
    return _epsilon(orders, divergences, delta)


def integer_epsilon(events: tuple[Event, ...], delta: float, relation: Relation) -> float:
    """Upper bound of epsilon from the divergences at integer orders, whatever law and sampling."""
    return _epsilon(ORDERS, [sum(e.steps * _one(e, a, relation) for e in events) for a in ORDERS],
                    delta)  # fmt: skip


def _epsilon(orders: Sequence[float], divergences: Sequence[float], delta: float) -> float:
    """The best conversion: Canonne, Kamath, Steinke 2020, Proposition 12; and delta(0) by D_1."""
    from dp_accounting.rdp import compute_epsilon  # it takes about a second

    return float(compute_epsilon(orders, divergences, delta)[0])


@lru_cache(maxsize=4096)
def gaussian_rdp(event: Event, order: float, apart: bool) -> float:
    """Renyi divergence of one Poisson-sampled Gaussian step, at any order > 1.

    Args:
        event: One step of it is meant.
        order: Of the divergence.
        apart: Whether the other world has another record instead of none.
    """
    mu, q = 1 / event.noise_multiplier, event.sampling_rate
    if q == 1:
        return order * mu * mu * (2.0 if apart else 0.5)
    step = 0.25 * min(1.0, 1 / mu)  # analytic within pi / mu: an error of e^-70
    z = np.arange(-mu - 12.0, (order + 1) * mu + 12.0, step)
    out, here = math.log(q) - mu * mu / 2, math.log1p(-q)
    terms = order * np.logaddexp(here, out + mu * z) - z * z / 2
    if apart:
        terms += (1 - order) * np.logaddexp(here, out - mu * z)
    total = float(logsumexp(terms)) + math.log(step) - math.log(2 * math.pi) / 2
    return (max(total, 0.0) * (1 + _SLACK) + _SLACK) / (order - 1)


@contextmanager
def quietly() -> Iterator[None]:
    """Keep the library from telling which orders it leaves out: the bound holds for any orders."""
    logger = logging.getLogger("absl")
    logger.addFilter(_never)
    try:
        yield
    finally:
        logger.removeFilter(_never)


def _never(_: logging.LogRecord) -> bool:
    return False


def _one(event: Event, a: int, relation: Relation) -> float:
    """Divergence of order a of one step, or of one epoch."""
    if relation != "replace-one":
        return _sampled(event, a)
    if event.sampling_rate == 1:  # twice as far
        return 4 * _sampled(event, a)
    apart = (a - 0.5) / (a - 1) * _sampled(event, 2 * a) + _sampled(event, 2 * a - 1)
    if event.sampling == "random-allocation":  # or both records in the same step, which is known
        return min(apart, 2 * a / event.noise_multiplier / event.noise_multiplier)
    return apart


def _sampled(event: Event, order: int) -> float:
    if event.sampling == "random-allocation":
        return allocation_rdp(event.noise_multiplier, event.batches, order)
    return sampled_gaussian_rdp(event, order)


def sampled_gaussian_rdp(event: Event, order: int) -> float:
    """Renyi divergence of one Poisson-sampled step at an integer order >= 2, under add-remove.

    (a - 1) D_a = log sum_j C(a, j) (1-q)^(a-j) q^j exp(j (j-1) / (2 sigma^2)), with the exponent
    enlarged by the excess of the noise's law.
    """
    q, sigma = event.sampling_rate, event.noise_multiplier / math.sqrt(1 + excess(event))
    half = 0.5 / sigma / sigma if sigma > 0 else math.inf
    if q == 1 or math.isinf(half * order * order):
        return order * half
    j = np.arange(order + 1)
    log_choose = gammaln(order + 1) - gammaln(j + 1) - gammaln(order - j + 1)
    terms = log_choose + (order - j) * math.log1p(-q) + j * math.log(q)
    total = float(logsumexp(terms + j * (j - 1) * half))
    return (max(total, 0.0) * (1 + _SLACK) + _SLACK) / (order - 1)


def excess(event: Event) -> float:
    """Share by which the divergence of the event's law may exceed the Gaussian's."""
    return 0.0 if event.variance is None else 9 / (4 * event.variance)
