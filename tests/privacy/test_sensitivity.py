"""How far one record moves a client's clipped sum: adding, removing, replacing it, in any model."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fedsieve.learning.flat import FlatModel
from fedsieve.learning.gradients import PerSampleGradients
from fedsieve.learning.losses import cross_entropy
from fedsieve.registry import component

CLASSES = 3
SHAPES = {"linear": (6,), "mlp": (6,), "conv": (1, 5, 5), "tied": (6,)}
SCALES = (0.0, 1e-3, 1.0, 1e4, 1e18, math.nan, math.inf, -math.inf)


class Tied(nn.Module):
    """One layer used twice: closed forms do not apply, the slow path has to."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.out = nn.Linear(6, 6), nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.inner(torch.tanh(self.inner(x)))))


def modules() -> dict[str, nn.Module]:
    torch_rng = torch.Generator().manual_seed(0)
    made: dict[str, nn.Module] = {
        "linear": nn.Linear(6, CLASSES),
        "mlp": nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, CLASSES)),
        "conv": nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(18, CLASSES)),
        "tied": Tied(),
    }
    with torch.no_grad():
        for module in made.values():
            for parameter in module.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=torch_rng))
    return made


@pytest.fixture(scope="module", params=list(SHAPES))
def engine(request: pytest.FixtureRequest) -> tuple[FlatModel, PerSampleGradients, tuple[int, ...]]:
    shape = SHAPES[request.param]
    model = FlatModel(modules()[request.param], shape)
    return model, PerSampleGradients(model, cross_entropy), shape


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    scales=st.lists(st.sampled_from(SCALES), min_size=1, max_size=6),
    other=st.sampled_from(SCALES),
    clip=st.sampled_from([1e-3, 1.0, 1e3]),
    projection=st.sampled_from(["identity", "random-mask", "random-basis"]),
)
def test_one_record_moves_the_sum_by_the_clip_and_its_exchange_by_twice_the_clip(
    engine: tuple[FlatModel, PerSampleGradients, tuple[int, ...]],
    seed: int,
    scales: list[float],
    other: float,
    clip: float,
    projection: str,
) -> None:
    model, gradients, shape = engine
    rng = np.random.default_rng(seed)
    b = len(scales)
    weights = np.array([*scales, other]).reshape(-1, *(1,) * len(shape))
    x = torch.from_numpy(rng.normal(size=(b + 1, *shape)) * weights).float()
    y = torch.from_numpy(rng.integers(CLASSES, size=b + 1))
    options = {} if projection == "identity" else {"k": 20}
    plan = component("projection", projection).build(**options).plan(model.layout, 0, seed, None)

    def total(records: list[int]) -> Tensor:
        return gradients.clipped_sums(
            model.read(), x[records], y[records], (len(records),), clip=clip, subspace=plan
        ).sums[0].double()  # fmt: skip

    data = list(range(b))
    whole, removed, added = total(data), total(data[:-1]), total([*data, b])
    replaced = total([*data[:-1], b])
    slack = clip * 1e-5 * (b + 1)  # float32 sums
    assert bool(torch.stack([whole, removed, added, replaced]).isfinite().all())
    assert (whole - removed).norm() <= clip + slack
    assert (whole - added).norm() <= clip + slack
    assert (whole - replaced).norm() <= 2 * clip + slack
    if not math.isfinite(other):
        assert (whole - added).norm() <= slack
