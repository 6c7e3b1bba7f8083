"""How strong must a message be to do the most damage? Asking the server's own rule.

Given a start a and a direction v, every malicious client sends ``a + tau v``, with the tau that
maximises the damage

    ||lift(R(honest U {a + tau v}) - mean(honest))||,    lower <= tau <= upper.

R is all that the server does with a message: decoding, pre-aggregators, rule. The lift takes what
comes out of it to the model; where it keeps lengths the damage is measured in R^k, which is equal.

The damage is not concave: it grows until the rule notices, and drops. A coarse grid, finer near 0
where robust rules are deceived, finds a hill; halving the distance to its neighbours climbs it. A
rule that switches between discrete answers has spikes between the points of any grid, so what is
found is a lower bound of the worst damage.
The published optimised ALIE and FOE search tau in the same way (Shejwalkar and Houmansadr,
"Manipulating the Byzantine", NDSS 2021).

Against a rule that sees inner products only, all candidates are linear in the honest rows, a and v:
one Gram of those holds every candidate's Gram and damage, and nothing of size k is touched again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedsieve.poisoning.attack import Scene, Weigh, length, unit

GRID = 10  # steps of the coarse grid on each side of 0
HALVINGS = 6  # refinements; the last leaves tau within 1/64 of a grid step
REACH = 100.0
"""Default end of the interval: a hundred standard deviations, or honest means. A rule that bounds
nothing is ruined long before; what goes unnoticed by a robust rule lies near 1."""


@dataclass(frozen=True, eq=False)
class Found:
    """The best candidate of a line search.

    Attributes:
        strength: Its tau.
        damage: Distance in R^d of the lifted aggregate from the lifted honest mean; nan if no
            candidate was accepted.
        rows: The malicious rows, (f, k).
        tried: Every tau that was evaluated, and its damage (nan: refused or not finite).
    """

    strength: float
    damage: float
    rows: Tensor
    tried: dict[float, float]


def line_search(
    scene: Scene,
    direction: Tensor,
    start: Tensor,
    *,
    lower: float = 0.0,
    upper: float = REACH,
) -> Found:
    """The most damaging messages ``start + tau * direction``: some 20 to 30 questions to the rule.

    Args:
        scene: The round; its rule is asked for up to 1 + 10 candidates on each side of 0, then 12.
        direction: Where to, (k,) for all clients or (f, k).
        start: Where from, (k,) or (f, k).
        lower: Smallest tau, <= 0.
        upper: Largest tau, >= 0. The interval is bounded because a rule without robustness, like
            the mean, is damaged without bound.

    Returns:
        The candidate of largest damage among all that were evaluated, the weaker one of equals;
        tau = 0 if every one was refused.
    """
    asked = question(scene, direction, start) if scene.f else lambda _: (0.0, 0.0)
    tried: dict[float, float] = {}

    def ask(tau: float) -> None:
        if tau not in tried:
            tried[tau], _ = asked(tau)

    def best() -> float:
        return max(tried, key=lambda tau: (_comparable(tried[tau]), -abs(tau)))

    grid = _grid(lower, upper)
    for tau in grid:
        ask(tau)
    here = grid.index(best())
    left = grid[here] - grid[max(here - 1, 0)]
    right = grid[min(here + 1, len(grid) - 1)] - grid[here]
    for _ in range(HALVINGS):
        left, right = left / 2, right / 2
        centre = best()
        ask(centre - left)
        ask(centre + right)
    tau = best()
    return Found(tau, tried[tau], scene.rows(start + tau * direction), tried)


def _grid(lower: float, upper: float) -> list[float]:
    """Points between lower and upper that crowd at 0, which is among them."""
    steps = [(i / GRID) ** 4 for i in range(GRID + 1)]
    return sorted({lower * s for s in steps} | {upper * s for s in steps})


Ask = Callable[[float], tuple[float, float]]
"""tau -> (damage, pull): pull = <R - mean, v> / <v, v> is how far v has moved the aggregate, in
units of v; a plain average of all n messages moves it by tau f/n. Both nan for a refused stack."""

_REFUSED = (float("nan"), float("nan"))


def question(scene: Scene, direction: Tensor, start: Tensor) -> Ask:
    """What the messages ``start + tau * direction`` do to the server's aggregate.

    Args:
        scene: The round, with f >= 1.
        direction: Where to, (k,) or (f, k); the pull is counted along the first row.
        start: Where from, (k,) or (f, k).
    """
    if scene.weigh is not None:
        return _by_gram(scene, scene.weigh, direction, start)
    return _by_stack(scene, direction, start)


def _by_stack(scene: Scene, direction: Tensor, start: Tensor) -> Ask:
    h, k = scene.honest.shape
    stack = scene.honest.new_empty(h + scene.f, k)
    stack[:h] = scene.honest
    first = direction.reshape(-1, k)[0]
    along, size = unit(first), float(length(first))

    def ask(tau: float) -> tuple[float, float]:
        stack[h:] = start + tau * direction
        try:
            moved = scene.aggregate(stack) - scene.mean
        except scene.refusals:
            return _REFUSED
        seen = moved if scene.isometric else scene.lift(moved)
        return _finite(float(length(seen)), _over(float(moved @ along), size))

    return ask


def _by_gram(scene: Scene, weigh: Weigh, direction: Tensor, start: Tensor) -> Ask:
    h, f, k = len(scene.honest), scene.f, scene.k
    starts, directions = start.reshape(-1, k), direction.reshape(-1, k)
    centred = torch.cat([scene.honest - scene.mean, starts - scene.mean, directions])
    G = _gram(centred)
    lifted = G if scene.isometric else _gram(scene.lift(centred))
    # which of the centred rows each client's message is made of; tau goes where `along` is 1
    base, along = np.zeros((h + f, len(G))), np.zeros((h + f, len(G)))
    base[:h, :h] = np.eye(h)
    malicious = np.arange(f)
    base[h + malicious, h + malicious % len(starts)] = 1
    first = h + len(starts)
    along[h + malicious, first + malicious % len(directions)] = 1

    def ask(tau: float) -> tuple[float, float]:
        made = base + tau * along
        stack = made @ G @ made.T
        if not np.isfinite(stack).all():
            return _REFUSED
        try:
            weights = np.asarray(weigh(stack))
        except scene.refusals:
            return _REFUSED
        moved = weights @ made
        damage = max(float(moved @ lifted @ moved), 0.0) ** 0.5
        return _finite(damage, _over(float(moved @ G[first]), float(G[first, first])))

    return ask


def _gram(rows: Tensor) -> NDArray[np.float64]:
    wide = rows.double()
    if wide.device.type == "cpu":  # numpy sees A @ A.T and computes one triangle only
        A = wide.numpy()
        return np.asarray(A @ A.T)
    return np.asarray((wide @ wide.T).cpu().numpy())


def _finite(damage: float, pull: float) -> tuple[float, float]:
    return (damage, pull) if np.isfinite(damage) else _REFUSED


def _over(moved: float, size: float) -> float:
    return moved / size if size > 0 else 0.0


def _comparable(damage: float) -> float:
    """A damage that compares: nothing is worse for the attacker than to be refused."""
    return -1.0 if np.isnan(damage) else damage
