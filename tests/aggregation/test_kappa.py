"""The declared robustness coefficients hold for every choice of the honest rows."""

import inspect
from itertools import combinations

import numpy as np
import pytest

from fedsieve.registry import Component, components


def required(part: Component) -> bool:
    """Whether it has arguments besides f without default: none of those has a coefficient."""
    known = inspect.signature(part.factory).parameters
    return any(a.default is a.empty for name, a in known.items() if name != "f")


Name = tuple[str | None, str]
MORE = "told of one more"  # Byzantine client than the rule


def build(name: Name, f: int):
    pre, rule = name
    last = RULES[rule.split()[0]].build(f=f, **VARIANTS.get(rule, {}))
    if pre is None:
        return last
    return PRES[pre.split()[0]].build(f=f + (MORE in pre)) >> last


def most(name: Name, n: int) -> int:
    """The largest f of the rule with n clients."""
    return build(name, 1).breakdown(n) - (MORE in (name[0] or ""))


DRAWS = 10_000
STACKS = 100  # honest stacks; the other draws search the worst Byzantine rows for each of them
RULES = {c.name: c for c in components("rule") if not required(c)}
PRES = {c.name: c for c in components("pre-aggregator")}
VARIANTS: dict[str, dict[str, object]] = {  # settings with a coefficient of their own
    "krum neighbours=n-f-1": {"neighbours": "n-f-1"},
    "multi-krum m=1": {"m": 1},
    "multi-krum m=1 neighbours=n-f-1": {"m": 1, "neighbours": "n-f-1"},
}
NAMES: list[Name] = [
    (pre, rule)
    for pre in (None, *PRES)
    for rule in RULES
    if build((pre, rule), 1).kappa(20) is not None
]
NAMES += [(None, variant) for variant in VARIANTS]
NAMES += [(f"nnm {MORE}", rule) for rule in ("krum", "median", "trimmed-mean")]


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
    rng = np.random.default_rng(11)
    least = next(n for n in range(3, 50) if most(name, n) >= 1)
    worst = 0.0
    for draw in range(STACKS):
        n = int(rng.integers(least, least + 5))
        f, k = int(rng.integers(1, most(name, n) + 1)), 1 + draw % 5
        rule = build(name, f)
        kappa = rule.kappa(n)
        sets = np.array(list(combinations(range(n), n - f)))
        found, stack = 0.0, adversarial(rng, n, f, k)
        for turn in range(DRAWS // STACKS):
            X = adversarial(rng, n, f, k)
            X[f:] = stack[f:]
            if turn % 2:  # near the worst rows so far
                X[:f] = stack[:f] + rng.normal(size=(f, k)) * rng.exponential(0.3)
            means = X[sets].mean(1)
            spread = ((X[sets] - means[:, None]) ** 2).sum(2).mean(1)
            error = ((rule(X) - means) ** 2).sum(1)
            ratio = float((error / (kappa * spread)).max())
            if ratio > found:
                found, stack = ratio, X
        worst = max(worst, found)
    assert 0.01 < worst <= 1


def test_kappa_of_a_composition_is_the_published_formula():
    mixed = PRES["nnm"].build(f=2) >> RULES["trimmed-mean"].build(f=2)
    ratio = 2 / 6
    assert mixed.kappa(10) == pytest.approx(16 / 8 * (6 * ratio * (1 + ratio) + 1))
    assert (PRES["nnm"].build(f=2) >> RULES["mean"].build(f=2)).kappa(10) is None
