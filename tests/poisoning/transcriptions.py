"""The formulas of the attacks on messages, slowly, on lists of floats."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

H, F, K = 6, 2, 4
each = functools.partial(zip, strict=True)
Rows = list[list[float]]


@dataclass
class Seen:
    """What the formulas are about."""

    x: Rows
    own: Rows
    last: list[float]
    rng: np.random.Generator
    aggregate: Callable[[Rows], list[float]]
    mu: list[float] = field(init=False)
    s: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self.mu = mean(self.x)
        self.s = [
            math.sqrt(sum((v - m) ** 2 for v in c) / H) for c, m in each(each(*self.x), self.mu)
        ]


def mean(rows: Rows) -> list[float]:
    return [sum(column) / len(rows) for column in each(*rows)]


def plus(a: list[float], t: float, b: list[float]) -> list[float]:
    return [i + t * j for i, j in each(a, b)]


def times(t: float, a: list[float]) -> list[float]:
    return [t * i for i in a]


def dot(a: list[float], b: list[float]) -> float:
    return sum(i * j for i, j in each(a, b))


def norm(a: list[float]) -> float:
    return math.sqrt(dot(a, a))


def far(a: list[float], b: list[float]) -> float:
    return norm(plus(a, -1, b))


def unit(a: list[float]) -> list[float]:
    return times(1 / norm(a), a)


def fang(t: Seen) -> Rows:
    share = t.rng.random((F, K)).tolist()
    rows = []
    for client in range(F):
        row = []
        for j in range(K):
            values = [x[j] for x in t.x]
            low, high = min(values), max(values)
            if t.mu[j] < 0:
                start, stop = (high, 2 * high) if high > 0 else (high, high / 2)
            else:
                start, stop = (low / 2, low) if low > 0 else (2 * low, low)
            row.append(start + share[client][j] * (stop - start))
        rows.append(row)
    return rows


def krum_scores(rows: Rows, near: int) -> list[float]:
    return [sum(sorted(far(a, b) ** 2 for b in rows)[1 : near + 1]) for a in rows]


def fang_krum(t: Seen) -> Rows:
    n, near = H + F, H - 2
    sign = [math.copysign(1, m) for m in t.mu]
    first = math.sqrt(min(krum_scores(t.x, near)) / ((n - 2 * F - 1) * K))
    first += max(norm(x) for x in t.x) / math.sqrt(K)
    series = [first / 2**i for i in range(17)]

    def chosen(strength: float) -> bool:
        scores = krum_scores([*t.x, *[times(-strength, sign)] * F], near)
        return min(scores[H:]) < min(scores[:H])

    strength = next((v for v in series if chosen(v)), 0.0)
    w = times(-strength, sign)
    aside = t.rng.standard_normal((F, K)).tolist()
    reach = [0.0, *(0.01 * norm(w) * u for u in t.rng.random((F, 1)).ravel()[1:])]
    return [plus(w, r, unit(a)) for r, a in each(reach, aside)]


def largest(allowed: Callable[[float], bool], first: float = 50.0) -> float:
    """The paper's search: steps that halve, up where it is allowed and down where it is not."""
    gamma = step = first
    best = 0.0
    while step > 1e-11:
        step /= 2
        if allowed(gamma):
            best, gamma = max(best, gamma), gamma + step
        else:
            gamma -= step
    return best


def min_max(t: Seen) -> Rows:
    limit, p = max(far(a, b) for a in t.x for b in t.x), times(-1, t.s)
    gamma = largest(lambda g: max(far(plus(t.mu, g, p), x) for x in t.x) <= limit)
    return [plus(t.mu, gamma, p)] * F


def min_sum(t: Seen) -> Rows:
    limit, p = max(sum(far(a, b) ** 2 for b in t.x) for a in t.x), times(-1, unit(t.mu))
    gamma = largest(lambda g: sum(far(plus(t.mu, g, p), x) ** 2 for x in t.x) <= limit)
    return [plus(t.mu, gamma, p)] * F


def agr_tailored(t: Seen) -> Rows:
    p = times(-norm(t.s), unit(t.s))

    def pull(gamma: float) -> float:
        moved = plus(t.aggregate([*t.x, *[plus(t.mu, gamma, p)] * F]), -1, t.mu)
        return dot(moved, p) / dot(p, p)

    def accepted(gamma: float) -> bool:
        share, here, farther = F / (H + F) / 2, pull(gamma), pull(1.001 * gamma)
        return here >= share * gamma and abs(farther - here) >= 1e-5 * share * gamma

    gamma = step = 10.0
    best = 0.0
    for _ in range(20):
        step /= 2
        best = max(best, gamma) if accepted(gamma) else best
        gamma += step if accepted(gamma) else -step
    return [plus(t.mu, best, p)] * F


def searched(t: Seen) -> Rows:
    """Along the inverse mean at the length of the spread, from -100 to 100."""
    p = times(-norm(t.s), unit(t.mu))

    def damage(tau: float) -> float:
        return far(t.aggregate([*t.x, *[plus(t.mu, tau, p)] * F]), t.mu)

    side = [100 * (i / 10) ** 4 for i in range(11)]
    grid = sorted({*side, *times(-1, side)})
    tried = {tau: damage(tau) for tau in grid}

    def best() -> float:
        return max(tried, key=lambda tau: (tried[tau], -abs(tau)))

    here = grid.index(best())
    left, right = (abs(grid[min(max(here + i, 0), 20)] - grid[here]) for i in (-1, 1))
    for _ in range(6):
        left, right = left / 2, right / 2
        centre = best()
        tried |= {tau: damage(tau) for tau in (centre - left, centre + right)}
    return [plus(t.mu, best(), p)] * F


def mimic(t: Seen) -> Rows:
    centred = [plus(x, -1, t.mu) for x in t.x]
    z = unit(max(centred, key=norm))
    u = [0.0] * K
    for x in centred:
        u = plus(u, dot(x, z), x)
    scores = [abs(dot(x, unit(u))) for x in centred]
    return [t.x[scores.index(max(scores))]] * F


def rop(t: Seen) -> Rows:
    c = plus(times(0.7, t.last), 0.3, t.mu)
    q = unit(plus(t.mu, -dot(t.mu, c) / dot(c, c), c))
    return [plus(t.last, -1.5 * norm(t.s), q)] * F


def index_poisoning(t: Seen) -> Rows:
    users = [sum(x[j] != 0 for x in t.x) for j in range(K)]
    size = [sum(abs(x[j]) for x in t.x) for j in range(K)]
    rare = sorted(range(K), key=lambda j: (users[j], size[j]))[:2]
    r = sorted(norm(x) for x in t.x)[(H - 1) // 2]
    row = [0.0] * K
    for j, sign in each(rare, t.rng.choice([-1.0, 1.0], size=2)):
        row[j] = sign * r / math.sqrt(2)
    return [row] * F


def sketch_collision(t: Seen) -> Rows:
    sign = -math.copysign(1, t.mu[3])  # the lift is longest along the last axis
    return [plus(t.mu, 2 * norm(t.s) * sign, [0.0, 0, 0, 1])] * F


def slow_bias(t: Seen) -> Rows:
    r = sorted(norm(x) for x in t.x)[(H - 1) // 2]
    return [times(min(1, r / norm(x)), x) for x in t.own]


def neurotoxin(t: Seen) -> Rows:
    kept = sorted(range(K), key=lambda j: abs(t.last[j]))[: K // 2]
    return [[v if j in kept else 0.0 for j, v in enumerate(x)] for x in t.own]


def published_z() -> float:
    n, share = H + F, (H - (5 - F)) / H  # t = floor(8/2 + 1) - 2 = 3 supporters
    assert n // 2 + 1 == 5
    low, high = -9.0, 9.0
    for _ in range(80):
        z = (low + high) / 2
        low, high = (z, high) if (1 + math.erf(z / math.sqrt(2))) / 2 < share else (low, z)
    return low


MESSAGES: dict[str, tuple[dict[str, Any], Callable[[Seen], Rows]]] = {
    "agr-tailored": ({}, agr_tailored),
    "alie": ({"strength": "published"}, lambda t: [plus(t.mu, -published_z(), t.s)] * F),
    "constrain-and-scale": (
        {"norm": 1.5},
        lambda t: [times(min((H + F) / F, 1.5 / norm(x)), x) for x in t.own],
    ),
    "fang-krum": ({}, fang_krum),
    "fang-median": ({}, fang),
    "fang-trimmed-mean": ({}, fang),
    "foe": ({"strength": 1.1}, lambda t: [times(-1.1, t.mu)] * F),
    "garbage": ({"kind": "inf"}, lambda t: [[math.inf, -math.inf] * (K // 2)] * F),
    "gaussian": (
        {"strength": 3.0, "centre": "mean"},
        lambda t: [plus(t.mu, 3, z) for z in t.rng.standard_normal((F, K)).tolist()],
    ),
    "hide-in-noise": (
        {"strength": 0.5},
        lambda t: [plus(t.mu, -0.5 * 0.1 * math.sqrt(K), unit(t.mu))] * F,
    ),
    "index-poisoning": ({"strength": 0.5}, index_poisoning),
    "line-search": ({"direction": "mean"}, searched),
    "mask-aware": ({"strength": 1.5}, lambda t: [times(-1.5, t.mu)] * F),
    "mimic": ({}, mimic),
    "min-max": ({}, min_max),
    "min-sum": ({"direction": "mean"}, min_sum),
    "model-replacement": (
        {"server_lr": 0.5},
        lambda t: [times((H + F) / F / 0.5, x) for x in t.own],
    ),
    "neurotoxin": ({"mask_ratio": 0.5}, neurotoxin),
    "rop": ({"strength": 1.5, "relocation": 0.7}, rop),
    "scale-abuse": ({}, lambda t: [times(1e6, x) for x in t.own]),
    "sign-flip": ({"strength": 3.0}, lambda t: [times(-3, x) for x in t.own]),
    "sketch-collision": ({"strength": 2.0}, sketch_collision),
    "slow-bias": ({}, slow_bias),
    "un-noised": ({}, lambda t: t.own),  # without noise, by the simulation
    "zero-gradient": ({}, lambda t: [times(-1 / F, [sum(c) for c in each(*t.x)])] * F),
}
