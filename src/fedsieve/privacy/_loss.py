"""Privacy loss distributions of Poisson-sampled Gaussian steps, and their composition.

A step is a pair of laws of one number, in units of the noise with mu = 1 / sigma: with the record
and without it, or with the one record and with the other,

    P = (1 - q) N(0, 1) + q N(mu, 1),    R = N(0, 1)  or  (1 - q) N(0, 1) + q N(-mu, 1),

which dominate every step (the second pair: `fedsieve.privacy._rdp`). log(P / R) grows with the
number z, so that an interval of losses is one of z, whose masses under P and R are differences of
the normal distribution function. "Connect the dots" (Doroshenko, Ghazi, Kamath, Kumar, Manurangsi,
"Connect the Dots: Tighter Discrete Approximations of Privacy Loss Distributions", PETS 2022) moves
what lies between two neighbours l and l + h of a grid to them so that both masses stay,

    at l + h:  (P - e^l R) / (1 - e^-h),    at l:  the rest of P,

the least distribution on the grid that is above the true one, for any h. Composition adds losses:
it multiplies Fourier transforms. What lies outside a window wraps around in them; by Chernoff's
inequality it is no more than a given tail on each side, which is added to the infinite loss.

The numbers are those of dp-accounting 0.6 (Google), which the tests hold them against; it inverts
losses one by one, and takes a hundred times as long where a step has many points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.signal import lfilter
from scipy.special import ndtr

Array = NDArray[np.float64]

TAIL = 1e-15
"""Least mass of a composition that may lie outside of its window, on each side."""

REACH = 10.0
"""Standard deviations of the noise that a step's grid covers: all but 1e-23 of it."""

MOST = 2_000_000
"""Places of a window; where it would need more, all of the mass is counted as infinite loss."""


@dataclass(frozen=True)
class Loss:
    """Masses at the losses (first + i) h, and the mass of an infinite loss."""

    h: float
    first: int
    masses: Array
    infinite: float

    def epsilon(self, delta: float) -> float:
        """The smallest epsilon >= 0 with delta(epsilon) <= delta; infinite where there is none."""
        if self.infinite > delta:
            return math.inf
        losses, more, discounted = self._positive()
        if more[0] - discounted[0] * math.exp(-losses[0]) <= delta:
            return 0.0
        # at the grid's points: what lies beyond, less e^l times its mass in the other world
        beyond = np.append(more[1:], self.infinite)
        at_points = beyond - math.exp(-self.h) * np.append(discounted[1:], 0.0)
        place = int(np.argmax(at_points <= delta))  # at the last it is the infinite mass
        return max(float(losses[place]) + math.log((more[place] - delta) / discounted[place]), 0.0)

    def deltas(self, epsilons: Array) -> Array:
        """delta(epsilon) for numbers >= 0."""
        losses, more, discounted = self._positive()
        place = np.searchsorted(losses, epsilons, side="right")
        within = np.minimum(place, len(losses) - 1)
        found = (
            more[within] - np.exp(np.minimum(epsilons - losses[within], 0.0)) * discounted[within]
        )
        return np.where(place < len(losses), np.maximum(found, self.infinite), self.infinite)

    def _positive(self) -> tuple[Array, Array, Array]:
        """Losses l > 0; the mass of at least l; and the sum of e^(l - l') mass over l' >= l."""
        start = max(1 - self.first, 0)
        masses = self.masses[start:] if start < len(self.masses) else np.zeros(1)
        places = np.arange(len(masses), dtype=np.float64) + (self.first + start)
        losses: Array = places * self.h
        more = self.infinite + np.cumsum(masses[::-1])[::-1]
        discounted = lfilter([1.0], [1.0, -math.exp(-self.h)], masses[::-1])[::-1]
        return losses, more, discounted


@lru_cache(maxsize=8)
def one_step(sigma: float, q: float, replace: bool, h: float) -> tuple[Loss, ...]:
    """The losses of one step in both directions, or in the only one where they are the same."""
    mu = 1 / sigma
    lowest, highest = ends(sigma, q, replace)
    first, last = math.floor(lowest / h), math.ceil(highest / h)
    grid: Array = np.arange(first, last + 1, dtype=np.float64) * h
    z = _number(grid, mu, q, replace)
    out, here = _masses(z - mu), _masses(z)
    p = (1 - q) * here + q * out
    r = (1 - q) * here + q * _masses(z + mu) if replace else here
    forward = _dots(p, r, grid, h)
    if replace or q == 1:
        return (Loss(h, first, *forward),)
    backward = _dots(r[::-1], p[::-1], -grid[::-1], h)
    return Loss(h, first, *forward), Loss(h, -last, *backward)


def compose(parts: Sequence[tuple[Loss, int]], tail: float = TAIL) -> Loss:
    """The loss of so many steps of each kind, all on one grid.

    Args:
        parts: Each kind with its number of steps.
        tail: Mass that may lie outside of the window on each side, far below any delta of interest.
    """
    if len(parts) == 1 and parts[0][1] == 1:
        return parts[0][0]
    h = parts[0][0].h
    each = tail / (2 * sum(times for _, times in parts))
    parts = [(_cut(loss, each), times) for loss, times in parts]
    lowest, highest = _window(parts, tail / 2)
    if highest - lowest >= MOST:
        return Loss(h, 0, np.zeros(1), 1.0)
    n = fft.next_fast_len(highest - lowest + 1, real=True)
    transform = np.ones(n // 2 + 1, dtype=np.complex128)
    shift, kept = 0, 0.0
    for loss, times in parts:
        # around its mean a step turns the phase least, and rounding grows with the phase's power
        middle = loss.first + round(_mean(loss))
        places = (loss.first - middle + np.arange(len(loss.masses))) % n
        transform *= fft.rfft(np.bincount(places, loss.masses, minlength=n)) ** times
        shift += times * middle
        kept += times * math.log1p(-loss.infinite)
    masses = np.maximum(np.roll(fft.irfft(transform, n), (shift - lowest) % n), 0.0)
    return Loss(h, lowest, masses, -math.expm1(kept) + tail)


def _cut(loss: Loss, mass: float) -> Loss:
    """The loss without the highest places, of no more mass than this, which becomes infinite."""
    above = np.cumsum(loss.masses[::-1])
    places = int(np.searchsorted(above, mass, side="right"))
    if places in (0, len(above)):
        return loss
    kept = len(above) - places
    return Loss(loss.h, loss.first, loss.masses[:kept], loss.infinite + float(above[places - 1]))


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


def _mean(loss: Loss) -> float:
    return float(np.arange(len(loss.masses)) @ loss.masses)


def _window(parts: Sequence[tuple[Loss, int]], tail: float) -> tuple[int, int]:
    """First and last place of the composition, but for this much of its mass on each side."""
    lowest = sum(times * loss.first for loss, times in parts)
    highest = sum(times * (loss.first + len(loss.masses) - 1) for loss, times in parts)
    centred = []
    middle, variance, farthest = 0.0, 0.0, 1.0
    for loss, times in parts:
        mean = _mean(loss)
        places = np.arange(len(loss.masses)) - mean
        centred.append((places, loss.masses, times))
        middle += times * (loss.first + mean)
        variance += times * float(places**2 @ loss.masses)
        farthest = max(farthest, -float(places[0]), float(places[-1]))

    def reach(slope: float) -> float:
        """Chernoff: how far from the middle the mass beyond is no more than the tail."""
        with np.errstate(under="ignore"):
            grown = sum(
                times * math.log(np.exp(slope * places) @ masses)
                for places, masses, times in centred
            )
        return (grown - math.log(tail)) / abs(slope)

    normal = math.sqrt(-2 * math.log(tail) / max(variance, 1e-300))  # best for a normal law
    last = 600 / farthest  # e^600 is a float
    near = np.minimum(normal * 2.0 ** np.arange(-1.0, 1.5, 0.5), last)
    for slope in (*near, *np.geomspace(last / 200, last, 10)):  # best for few steps, rarely taken
        highest = min(highest, math.ceil(middle + reach(slope)))
        lowest = max(lowest, math.floor(middle - reach(-slope)))
    return lowest, max(highest, lowest)
