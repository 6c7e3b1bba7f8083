"""Bounds of sampled Gaussian releases from telling the observer who takes part when.

Let the steps in which a record takes part be known. What is left is a Gaussian release in each of
them and nothing in the others; of k steps of one kind together, one of mu = Delta sqrt(k) / sigma.
The messages are a mixture of these over the draws, in both worlds with the same weights, and
hockey-stick divergences are jointly convex, so that with K ~ Binomial(T, q)

    delta(eps) <= E[ delta_{mu(K)}(eps) ] <= P[K > k] + delta_{mu(k)}(eps)    for every k,

under every neighbouring relation. By Chernoff's inequality P[K >= k] <= exp(-T D(k/T || q)), D the
divergence of two coins. That is far above the truth where the noise hides the draws, and close to
it where there is so little noise that it does not: where other methods have no answer.
"""

from __future__ import annotations

import math

from fedsieve.privacy._exact import gaussian_epsilon
from fedsieve.privacy.guarantee import Event, Relation, sensitivity

_SHARES = (0.0, 1e-3, 0.1, 0.5, 0.9, 0.999)  # of delta, for what happens beyond k
_SLACK = 1e-9  # relative, of a probability: rounding


def never(events: tuple[Event, ...], delta: float) -> bool:
    """Whether a record takes part in any Poisson-sampled step with probability delta at most."""
    if any(e.sampling != "poisson" or e.sampling_rate == 1 for e in events):
        return False
    absent = sum(e.steps * math.log1p(-e.sampling_rate) for e in events)
    return -math.expm1(absent) * (1 + _SLACK) <= delta


def known_epsilon(events: tuple[Event, ...], delta: float, relation: Relation) -> float:
    """Upper bound of epsilon of Poisson-sampled Gaussian releases, at least one."""
    moved = sensitivity(relation)
    sampled = sum(e.sampling_rate < 1 for e in events)

    def at(share: float) -> float:
        mus = (
            math.sqrt(_most(e, share * delta / max(sampled, 1))) * (moved / e.noise_multiplier)
            for e in events
        )
        return gaussian_epsilon(math.hypot(*mus), (1 - share) * delta)

    return min(at(share) for share in _SHARES)


def _most(event: Event, probability: float) -> int:
    """The least k that Chernoff's inequality shows to be exceeded with this probability at most."""
    steps, q = event.steps, event.sampling_rate
    if q == 1 or probability == 0:
        return steps

    def fits(k: int) -> bool:  # P[K >= k + 1]
        if k == steps:
            return True
        p = (k + 1) / steps
        if p <= q:
            return False
        coins = p * math.log(p / q)
        if p < 1:
            coins += (1 - p) * (math.log1p(-p) - math.log1p(-q))
        return -steps * coins * (1 - _SLACK) <= math.log(probability)

    low, high = -1, steps
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high
