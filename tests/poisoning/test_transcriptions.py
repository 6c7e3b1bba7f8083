"""Every registered attack against a slow transcription of what it does, on lists of numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from fedsieve.poisoning import Patch, Records, Scene
from fedsieve.registry import components
from tests.poisoning.transcriptions import MESSAGES, F, H, K, Rows, Seen, each

ATTACKS = {c.name: c for c in components("attack")}


class Stretched:
    """A lift that makes the last number ten times as long."""

    d = k = K
    maps = None

    def project(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.tensor([1.0, 1, 1, 10], dtype=x.dtype)

    lift = project


def trimmed(rows: Rows) -> list[float]:
    return [sum(sorted(c)[F:-F]) / (len(rows) - 2 * F) for c in each(*rows)]


@pytest.mark.parametrize("name", MESSAGES)
@pytest.mark.parametrize("seed", range(3))
def test_messages(scene: Callable[..., Scene], name: str, seed: int) -> None:
    options, formula = MESSAGES[name]
    subspace = Stretched() if name == "sketch-collision" else None

    def aggregate(stack: torch.Tensor) -> torch.Tensor:
        return torch.tensor(trimmed(stack.tolist()), dtype=torch.float64)

    near = 0.1 if name == "fang-krum" else 0.5  # or so few clients would never lead Krum away
    s = scene(H, F, K, seed=seed, offset=near, aggregate=aggregate, subspace=subspace)
    if name == "index-poisoning":
        s.honest[:4, 0] = s.honest[1:, 1] = s.honest[2:, 3] = 0.0
    held = s.honest.tolist(), s.own.tolist(), s.last.tolist()
    seen = Seen(*held, np.random.default_rng(seed + 1), trimmed)  # the scene's own draws
    expected = torch.tensor(formula(seen), dtype=torch.float64)
    torch.testing.assert_close(ATTACKS[name].build(**options).craft(s), expected)


# ------------------------------------------------------------------------------------- records

Image = list[list[int]]
PLACES = [[r, c] for r in (3, 4) for c in (2, 3)]  # a 2 x 2 patch, bottom right of 5 x 4 pixels


def drawn(n: int, rng: np.random.Generator) -> list[int]:
    return sorted(rng.choice(n, max(1, round(0.5 * n)), replace=False).tolist())


def patched(images: list[Image], places: list[list[int]], bright: int) -> list[Image]:
    return [
        [[bright if [r, c] in places else v for c, v in enumerate(row)] for r, row in enumerate(x)]
        for x in images
    ]


def triggered(
    x: list[Image], y: list[int], places: list[list[int]], bright: int, rng: np.random.Generator
) -> tuple[list[Image], list[int]]:
    at, false = drawn(len(y), rng), patched(x, places, bright)
    return (
        [false[i] if i in at else x[i] for i in range(len(y))],
        [1 if i in at else y[i] for i in range(len(y))],
    )


def badnets(held: list[Any], rngs: list[np.random.Generator]) -> list[Any]:
    bright = [max(v for image in x for row in image for v in row) for x, _ in held]
    return [triggered(x, y, PLACES, b, g) for (x, y), b, g in each(held, bright, rngs)]


def dba(held: list[Any], rngs: list[np.random.Generator]) -> list[Any]:
    bright = [max(v for image in x for row in image for v in row) for x, _ in held]
    halves = [PLACES[:2], PLACES[2:]]  # of two malicious clients
    return [triggered(x, y, p, b, g) for (x, y), p, b, g in each(held, halves, bright, rngs)]


def edge_case(held: list[Any], rngs: list[np.random.Generator]) -> list[Any]:
    """The members of class 2 that are farthest from their mean, in units of all directions."""
    members = [image for x, y in held for image, label in each(x, y) if label == 2]
    Z = np.array(members, dtype=float).reshape(len(members), -1)
    Z = (Z - Z.mean(0)) / Z.std(0)
    U, S, _ = np.linalg.svd(Z, full_matrices=False)
    kept = (1e-10 * S[0] ** 2 < S**2) & (np.arange(len(S)) < 20)
    rarity = np.linalg.norm(U[:, kept], axis=1)
    count = round(0.25 * len(members))
    tail = [members[i] for i in np.argsort(-rarity, kind="stable")[:count]]
    false = []
    for (x, y), rng in each(held, rngs):
        at = drawn(len(y), rng)
        order = [i for _ in range(math.ceil(len(at) / count)) for i in rng.permutation(count)]
        x, y = list(x), list(y)
        for place, i in each(at, order[: len(at)]):
            x[place], y[place] = tail[i], 1
        false.append((x, y))
    return false


def relabelled(label: Callable[[int, int], int]) -> Callable[..., list[Any]]:
    def poison(held: list[Any], rngs: list[np.random.Generator]) -> list[Any]:
        shifts = [rng.integers(1, 3, size=len(y)).tolist() for (_, y), rng in each(held, rngs)]
        return [(x, [label(v, s) for v, s in each(y, own)]) for (x, y), own in each(held, shifts)]

    return poison


PATCH = {"target": 1, "fraction": 0.5}
RECORDS: dict[str, tuple[dict[str, Any], Callable[..., list[Any]]]] = {
    "badnets": (PATCH, badnets),
    "dba": (PATCH, dba),
    "edge-case": ({"target": 1, "source": 2, "tail": 0.25, "fraction": 0.5}, edge_case),
    "label-flip": ({}, relabelled(lambda y, _: 2 - y)),
    "label-flip-random": ({}, relabelled(lambda y, shift: (y + shift) % 3)),
    "label-flip-targeted": (
        {"source": 2, "target": 0},
        relabelled(lambda y, _: 0 if y == 2 else y),
    ),
    "none": ({}, relabelled(lambda y, _: y)),
}


@pytest.mark.parametrize("name", RECORDS)
def test_records(name: str) -> None:
    options, formula = RECORDS[name]
    if options is PATCH:
        options = options | {"trigger": Patch(2, "bottom-right")}
    rng = np.random.default_rng(0)
    held = [
        Records(
            torch.from_numpy(rng.integers(0, 200, (n, 5, 4)).astype(np.uint8)),
            torch.from_numpy(rng.integers(0, 3, n)),
            3,
        )
        for n in (90, 70)
    ]
    false = ATTACKS[name].build(**options).poison(held, [np.random.default_rng(i) for i in (1, 2)])
    plain = [(own.x.tolist(), own.y.tolist()) for own in held]
    expected = formula(plain, [np.random.default_rng(i) for i in (1, 2)])
    for new, (x, y) in each(false, expected):
        assert new.x.tolist() == x
        assert new.y.tolist() == y


def test_every_attack_is_transcribed() -> None:
    assert {*MESSAGES, *RECORDS} == set(ATTACKS)
