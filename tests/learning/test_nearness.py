"""The distance term of a loss against automatic differentiation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedsieve.learning.nearness import Nearness


def distance(kind: str, y: torch.Tensor, G: torch.Tensor) -> torch.Tensor:
    if kind == "norm":
        return (y - G).square().sum().sqrt()
    return 1 - (y @ G) / (y @ y).sqrt() / (G @ G).sqrt()


@given(
    kind=st.sampled_from(["norm", "cosine"]),
    seed=st.integers(0, 2**16),
    m=st.integers(1, 3),
    size=st.sampled_from([1e-3, 1.0, 1e3]),
)
def test_the_gradient_is_that_of_the_distance(kind: Any, seed: int, m: int, size: float) -> None:
    draws = torch.randn(2, m, 7, dtype=torch.float64, generator=torch.manual_seed(seed))
    y, G = (size * draws).unbind()
    found = Nearness(0.3, kind).gradient(y, G)
    for row, start, gradient in zip(y, G, found, strict=True):
        at = row.clone().requires_grad_()
        (expected,) = torch.autograd.grad(distance(kind, at, start), at)
        torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("kind", ["norm", "cosine"])
@pytest.mark.parametrize("value", [0.0, 3.0])
def test_where_training_begins_there_is_nothing_to_pull(kind: Any, value: float) -> None:
    G = torch.full((2, 5), value)
    torch.testing.assert_close(Nearness(0.3, kind).gradient(G, G), torch.zeros(2, 5))


def test_the_whole_gradient_weighs_both() -> None:
    g, away = torch.tensor([4.0, 0.0]), torch.tensor([0.0, 8.0])
    assert Nearness(0.25).blend(g, away).tolist() == [1.0, 6.0]


@pytest.mark.parametrize("alpha", [0.0, -0.1, 1.1, float("nan")])
def test_weights_out_of_range_are_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match=r"must lie in \(0, 1\]"):
        Nearness(alpha)


def test_unknown_distances_are_refused() -> None:
    with pytest.raises(ValueError, match="distance='far' is not one of norm, cosine"):
        Nearness(0.5, "far")  # type: ignore[arg-type]
