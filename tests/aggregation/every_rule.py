"""Every registered rule, and every pre-aggregator before it, and rows that would harm them."""

import numpy as np
import pytest
import torch

from fedsieve.aggregation import Facts, Rule
from fedsieve.registry import components

N, F, K = 9, 2, 6
WIDE = 999  # columns; shares of coordinates must add up over many

RULES = {c.name: c for c in components("rule")}
PRES = {c.name: c for c in components("pre-aggregator")}
VARIANTS: dict[str, dict[str, object]] = {  # settings on which facts, or the way, depend
    "centered-clipping tau=1.0": {"tau": 1.0},
    "filter-l2 sigma=0.25": {"sigma": 0.25},
    "flame lambda_=0.01": {"lambda_": 0.01},
    "geometric-median iterations=3": {"iterations": 3},
    "krum neighbours=n-f-1": {"neighbours": "n-f-1"},
    "multi-krum m=7": {"m": 7},
}
Name = tuple[str | None, str]
NAMES: list[Name] = [(pre, rule) for pre in (None, *PRES) for rule in RULES]
NAMES += [(None, variant) for variant in VARIANTS]
SAMPLES = {"root": lambda k: torch.ones(k)}  # for arguments that have no default


def build(name: Name, f: int = F, k: int = K) -> Rule:
    pre, rule = name
    samples = {argument: make(k) for argument, make in SAMPLES.items()}
    last = RULES[rule.split()[0]].build(f=f, **samples, **VARIANTS.get(rule, {}))
    return last if pre is None else PRES[pre].build(f=f) >> last


def size(name: Name) -> int:
    """The least n >= N for which it is defined with F Byzantine clients."""
    return next(n for n in range(N, 10 * N) if build(name).breakdown(n) >= F)


def having(facts: Facts):
    """Every rule and composition that has these facts."""
    names = [name for name in NAMES if facts in build(name).facts]
    return pytest.mark.parametrize("name", names, ids=lambda name: ">>".join(filter(None, name)))


every = having(Facts.NONE)


def honest(seed: int = 0, n: int = N, k: int = K, dtype: torch.dtype = torch.float32):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(1.0, 0.25, (n, k))).to(dtype)


HOSTILE = {
    "nan row": [torch.nan] * K,
    "nan coordinate": [1.0] * (K - 1) + [torch.nan],
    "inf": [torch.inf] * K,
    "minus inf": [-torch.inf] * K,
    "mixed inf": [torch.inf, -torch.inf] * (K // 2),
    "one inf": [1.0] * (K - 1) + [torch.inf],
    "1e30": [1e30] * K,
    "1e38": [1e38] * K,
    "mixed 1e38": [1e38, -1e38] * (K // 2),
    "1e20, where float32 squares overflow": [1e20] + [0.0] * (K - 1),
}
LINE = [0.3, -1.2, 0.7, 1.9, -0.4, -0.8]
SCALES = [  # of two rows on one line, of which the farther may drown the nearer
    (1e16, -1e33),
    (1e8, 1e30),
    (1e30, 1e8),
    (1e10, -1e27),
    (1e18, -1e36),
    (1e-30, 1e38),
    (1e3, -1e6),
]
HOSTILE |= {f"{a:g} and {b:g}": [[a * x for x in LINE], [b * x for x in LINE]] for a, b in SCALES}
# the mean of all messages, turned around or not, goes wherever a single one wants
UNBOUNDED = {"mean", "robust-learning-rate", "geometric-median iterations=3"}


def hostile(kind: str, rows: int) -> torch.Tensor:
    return torch.tensor(HOSTILE[kind]).expand(F, K)[:rows]
