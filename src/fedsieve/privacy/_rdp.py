"""Renyi accounting, for where a loss distribution's grid would be too large.

Add-remove: Mironov, Talwar, Zhang, "Renyi Differential Privacy of the Sampled Gaussian Mechanism"
(2019), from dp-accounting. Replace-one, which dp-accounting does not offer under Poisson sampling,
goes through the data set without the unit by the weak triangle inequality (Mironov, "Renyi
Differential Privacy", CSF 2017, Proposition 11 with p = q = 2):

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
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from scipy.special import gammaln, logsumexp

from fedsieve.privacy._allocation import allocation_rdp
from fedsieve.privacy.guarantee import Event, Relation

ORDERS = tuple(range(2, 65)) + tuple(2**i for i in range(7, 11))  # of the replace-one bound


def rdp_epsilon(events: tuple[Event, ...], delta: float, relation: Relation) -> float:
    """Upper bound of epsilon from the Renyi divergences of the events."""
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
    from dp_accounting.rdp import RdpAccountant

    if relation == "replace-one":
        if all(e.sampling_rate == 1 for e in events):  # a Gaussian of twice the sensitivity
            doubled = tuple(Event(e.noise_multiplier / 2, 1.0, e.steps) for e in events)
            return rdp_epsilon(doubled, delta, "add-remove")
        return integer_epsilon(events, delta, relation)
    accountant = RdpAccountant()
    with quietly():
        for e in events:
            gaussian = GaussianDpEvent(e.noise_multiplier)
            accountant.compose(PoissonSampledDpEvent(e.sampling_rate, gaussian), e.steps)
        return float(accountant.get_epsilon(delta))


def integer_epsilon(events: tuple[Event, ...], delta: float, relation: Relation) -> float:
    """Upper bound of epsilon from the divergences at integer orders, whatever law and sampling."""
    from dp_accounting.rdp import compute_epsilon

    rdp = [sum(e.steps * _one(e, a, relation) for e in events) for a in ORDERS]
    with quietly():
        return float(compute_epsilon(ORDERS, rdp, delta)[0])


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
        return min(apart, 2 * a / event.noise_multiplier**2)
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
    if q == 1:
        return order / (2 * sigma**2)
    j = np.arange(order + 1)
    log_choose = gammaln(order + 1) - gammaln(j + 1) - gammaln(order - j + 1)
    terms = log_choose + (order - j) * math.log1p(-q) + j * math.log(q)
    return float(logsumexp(terms + j * (j - 1) / (2 * sigma**2))) / (order - 1)


def excess(event: Event) -> float:
    """Share by which the divergence of the event's law may exceed the Gaussian's."""
    return 0.0 if event.variance is None else 9 / (4 * event.variance)
