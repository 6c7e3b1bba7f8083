"""The declared robustness coefficients hold for every choice of the honest rows."""

from itertools import combinations

import numpy as np
import pytest

from fedsieve.registry import components

DRAWS = 10_000
RULES = {c.name: c for c in components("rule")}
PRES = {c.name: c for c in components("pre-aggregator")}
NAMES = [
    (pre, rule)
    for pre in (None, *PRES)
    for rule in RULES
    if RULES[rule].build(f=1).kappa(5) is not None
]


def adversarial(rng: np.random.Generator, n: int, f: int, k: int) -> np.ndarray:
    """Honest rows of random spread, and f placed by one of four schemes."""
    X = rng.normal(size=(n, k)) * rng.uniform(0.1, 2, k)
    mean, std = X[f:].mean(0), X[f:].std(0)
    match rng.integers(4):
        case 0:
            X[:f] = mean + rng.uniform(-3, 3) * std
        case 1:
            X[:f] = mean - rng.uniform(0, 4) * mean
        case 2:
            X[:f] = mean + std * rng.choice([-1, 1], (f, k)) * rng.exponential(3, (f, 1))
        case 3:
            X[:f] = X[rng.integers(f, n)] + 0.1 * rng.normal(size=(f, k))
    return X


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ">>".join(filter(None, name)))
def test_kappa_bounds_the_error_against_every_honest_set(name):
    pre, rule = name
    rng = np.random.default_rng(11)
    worst = 0.0
    for draw in range(DRAWS // 100):
        n = int(rng.integers(3, 8))
        f, k = int(rng.integers(1, (n - 1) // 2 + 1)), 1 + draw % 5
        built = RULES[rule].build(f=f)
        built = built if pre is None else PRES[pre].build(f=f) >> built
        kappa = built.kappa(n)
        sets = np.array(list(combinations(range(n), n - f)))
        for _ in range(100):
            X = adversarial(rng, n, f, k)
            means = X[sets].mean(1)
            spread = ((X[sets] - means[:, None]) ** 2).sum(2).mean(1)
            error = ((built(X) - means) ** 2).sum(1)
            worst = max(worst, float((error / (kappa * spread)).max()))
    assert 0.01 < worst <= 1


def test_kappa_of_a_composition_is_the_published_formula():
    mixed = PRES["nnm"].build(f=2) >> RULES["trimmed-mean"].build(f=2)
    ratio = 2 / 6
    assert mixed.kappa(10) == pytest.approx(16 / 8 * (6 * ratio * (1 + ratio) + 1))
    assert (PRES["nnm"].build(f=2) >> RULES["mean"].build(f=2)).kappa(10) is None
