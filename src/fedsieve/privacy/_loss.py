"""Privacy loss distributions of Poisson-sampled Gaussian steps, one at a time.

A step is a pair of laws of one number, in units of the noise with mu = 1 / sigma: with the record
and without it, or with the one record and with the other,

    P = (1 - q) N(0, 1) + q N(mu, 1),    R = N(0, 1)  or  (1 - q) N(0, 1) + q N(-mu, 1),

which dominate every step (the second pair: `fedsieve.privacy._rdp`). log(P / R) grows with the
number z, so that an interval of losses is one of z, whose masses under P and R are differences of
the normal distribution function. "Connect the dots" (Doroshenko, Ghazi, Kamath, Kumar, Manurangsi,
"Connect the Dots: Tighter Discrete Approximations of Privacy Loss Distributions", PETS 2022) moves
what lies between two neighbours l and l + h of a grid to them so that both masses stay,

    at l + h:  (P - e^l R) / (1 - e^-h),    at l:  the rest of P,

the least distribution on the grid that is above the true one, for any h. These masses of one step
are all that is computed here. dp-accounting finds the same, but inverts losses one by one, which
takes a hundred times as long where a step has many points; what comes after one step is left to it
(`fedsieve.privacy._pld`).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Array = NDArray[np.float64]

REACH = 10.0
"""Standard deviations of the noise that a step's grid covers: all but 1e-23 of it."""


class Step(NamedTuple):
    """Masses at the losses (first + i) h, and the mass of an infinite loss."""

    first: int
    masses: Array
    infinite: float


@lru_cache(maxsize=8)
def one_step(sigma: float, q: float, replace: bool, h: float) -> tuple[Step, ...]:
    """The losses of one step in both directions, or in the only one where they are the same."""
    mu = 1 / sigma
    lowest, highest = ends(sigma, q, replace)
    first, last = math.floor(lowest / h), math.ceil(highest / h)
    grid: Array = np.arange(first, last + 1, dtype=np.float64) * h
    z = _number(grid, mu, q, replace)
    out, here = _masses(z - mu), _masses(z)
    p = (1 - q) * here + q * out
    r = (1 - q) * here + q * _masses(z + mu) if replace else here
    forward = Step(first, *_dots(p, r, grid, h))
    if replace or q == 1:
        return (forward,)
    return forward, Step(-last, *_dots(r[::-1], p[::-1], -grid[::-1], h))


def ends(sigma: float, q: float, replace: bool) -> tuple[float, float]:
    """The least and the largest loss of one step that its grid covers."""
    mu = 1 / sigma
    far = np.array([-REACH - (mu if replace else 0.0), REACH + mu])
    low, high = _loss(far, mu, q, replace)
    return float(low), float(high)


def _loss(z: Array, mu: float, q: float, replace: bool) -> Array:
    """log(P / R) at these numbers."""

    def mixed(x: Array) -> Array:
        none = math.log1p(-q) if q < 1 else -math.inf
        return np.asarray(np.logaddexp(none, math.log(q) + x - mu * mu / 2))

    return mixed(mu * z) - mixed(-mu * z) if replace else mixed(mu * z)


def _number(losses: Array, mu: float, q: float, replace: bool) -> Array:
    """The numbers with these losses, minus infinity for losses that are never reached."""
    if q == 1:
        return losses / (2 * mu) if replace else losses / mu + mu / 2
    if not replace:  # log(1 + (e^l - 1) / q), without overflow
        over = np.expm1(np.minimum(losses, 50.0)) / q
        with np.errstate(divide="ignore"):
            inner = np.log1p(np.maximum(over, -1.0))
        return np.asarray((np.where(losses > 50, losses - math.log(q), inner) + mu * mu / 2) / mu)
    # 2 sinh(mu z - l/2) = 2 sinh(l/2) e^(mu^2/2) (1 - q)/q, with the logarithm of sinh
    half = np.abs(losses) / 2
    with np.errstate(divide="ignore"):
        sinh = half + np.log(-np.expm1(-2 * half)) - math.log(2)
    t = sinh + mu * mu / 2 + math.log1p(-q) - math.log(q)
    arsinh = np.logaddexp(0.5 * np.logaddexp(0.0, 2 * t), t)
    return np.asarray((losses / 2 + np.sign(losses) * arsinh) / mu)


def _masses(z: Array) -> Array:
    """Of the standard normal law below, between and above the numbers; exact far out too."""
    ends = np.concatenate([[-np.inf], z, [np.inf]])
    below, above = ndtr(ends), ndtr(-ends)
    return np.asarray(np.where(ends[1:] < 0, np.diff(below), -np.diff(above)))


def _dots(p: Array, r: Array, grid: Array, h: float) -> tuple[Array, float]:
    """The masses on the grid, from those below, between and above its points; and the infinite."""
    inner = p[1:-1]
    up = np.clip((inner - np.exp(grid[:-1]) * r[1:-1]) / -math.expm1(-h), 0.0, inner)
    masses = np.append(inner - up, 0.0)
    masses[1:] += up
    masses[0] += p[0]
    return masses, float(p[-1])
