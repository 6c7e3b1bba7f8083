"""Clipping layer by layer: against autograd one record at a time, and the bound in quadrature."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fedsieve.learning.clipping import Clip
from fedsieve.learning.flat import FlatModel
from fedsieve.learning.gradients import PerSampleGradients
from fedsieve.learning.losses import cross_entropy
from fedsieve.registry import component

CLASSES = 3


class Recurrent(nn.Module):
    """One layer used twice: no closed form, the slow path."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.out = nn.Linear(6, 6), nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.inner(torch.tanh(self.inner(x)))))


MODELS = {
    "mlp": (lambda: nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, CLASSES)), (6,)),
    "conv": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.Tanh(), nn.Flatten(), nn.Linear(36, CLASSES)
        ),
        (1, 5, 5),
    ),
    "recurrent": (Recurrent, (6,)),
}
PROJECTIONS = ("identity", "random-mask", "random-basis", "low-rank")
pytestmark = pytest.mark.filterwarnings("ignore::fedsieve.learning.gradients.SlowPathWarning")


def made(name: str) -> FlatModel:
    make, shape = MODELS[name]
    generator = torch.Generator().manual_seed(3)
    module = make()
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=generator))
    return FlatModel(module, shape)


def planned(name: str, model: FlatModel):
    options = {} if name == "identity" else {"k": max(20, model.d // 3)}
    return component("projection", name).build(**options).plan(model.layout, 0, 1, None)


def rows_by_autograd(model: FlatModel, plan, x: Tensor, y: Tensor) -> list[dict[str, Tensor]]:
    """Each record's projected gradient in float64, by layer."""
    module = copy.deepcopy(model.module).double()
    for p in module.parameters():
        p.requires_grad_(True)
    found = []
    for one, target in zip(x.double(), y, strict=True):
        loss = cross_entropy(module(one[None]), target[None]).sum()
        grads = torch.autograd.grad(loss, list(module.parameters()))
        layers: dict[str, list[Tensor]] = {}
        slots = zip(model.layout.slots, plan.maps, grads, strict=True)
        for slot, layer_map, g in slots:
            if hasattr(layer_map, "basis"):
                part = (g.reshape(slot.matrix) @ layer_map.basis.double()).flatten()
            elif hasattr(layer_map, "index"):
                part = g.flatten()[layer_map.index]
            else:
                part = g.flatten()
            layers.setdefault(slot.name.rpartition(".")[0], []).append(part)
        found.append({name: torch.cat(parts) for name, parts in layers.items()})
    return found


def batch(shape: tuple[int, ...], size: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scales = torch.logspace(-2, 1, size).reshape(-1, *(1,) * len(shape))
    x = torch.randn(size, *shape, generator=generator) * scales
    return x, torch.randint(CLASSES, (size,), generator=generator)


@pytest.mark.parametrize("split", ["equal", "size"])
@pytest.mark.parametrize("projection", PROJECTIONS)
@pytest.mark.parametrize("name", MODELS)
def test_every_layer_is_cut_to_its_own_bound(name: str, projection: str, split: str) -> None:
    model = made(name)
    plan = planned(projection, model)
    x, y = batch(model.layout.input_shape, 7, 0)
    clip, counts = 0.7, (3, 0, 4)
    rows = rows_by_autograd(model, plan, x, y)
    widths = {layer: len(part) for layer, part in rows[0].items() if len(part)}
    shares = {layer: (w if split == "size" else 1) for layer, w in widths.items()}
    bounds = {layer: clip * math.sqrt(s / sum(shares.values())) for layer, s in shares.items()}
    cut, factors = [], []
    for row in rows:
        scale = {
            layer: min(1.0, bounds[layer] / max(float(row[layer].norm()), 1e-300))
            for layer in bounds
        }
        cut.append(torch.cat([row[layer] * scale[layer] for layer in bounds]))
        factors.append(min(scale.values()))
    expected = torch.stack([part.sum(0) for part in torch.stack(cut).split(counts)])
    engine = PerSampleGradients(model, cross_entropy)
    found = engine.clipped_sums(
        model.read(), x, y, counts, clip=Clip(clip, "per-layer", split=split), subspace=plan
    )
    # the message holds the layers in the model's order, tensor by tensor, as the oracle does
    torch.testing.assert_close(found.sums.double(), expected, rtol=1e-3, atol=1e-5)
    whole = torch.stack([torch.cat(list(row.values())).norm() for row in rows])
    torch.testing.assert_close(found.norms, whole, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(
        found.factors, torch.tensor(factors, dtype=torch.float64), rtol=1e-3, atol=0
    )
    assert (found.factors < 1).any()


def test_one_layer_is_clipped_as_a_whole() -> None:
    model = FlatModel(nn.Linear(6, CLASSES), (6,))
    x, y = batch((6,), 9, 1)
    engine = PerSampleGradients(model, cross_entropy)
    flat, layers = (
        engine.clipped_sums(model.read(), x, y, (9,), clip=Clip(0.3, form))
        for form in ("flat", "per-layer")
    )
    assert torch.equal(flat.sums, layers.sums)
    assert torch.equal(flat.factors, layers.factors)


def test_small_passes_and_several_parameter_vectors_give_the_same_sums() -> None:
    model = made("conv")
    x, y = batch(model.layout.input_shape, 12, 2)
    clip, counts = Clip(0.5, "per-layer"), (5, 7)
    theta = model.read()
    together = PerSampleGradients(model, cross_entropy).clipped_sums(theta, x, y, counts, clip=clip)
    split = PerSampleGradients(model, cross_entropy, memory=4000)
    for own in (theta, theta.expand(2, -1)):
        apart = split.clipped_sums(own, x, y, counts, clip=clip)
        torch.testing.assert_close(apart.sums, together.sums, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(apart.factors, together.factors, rtol=1e-4, atol=0)


@pytest.mark.parametrize("split", ["equal", "size"])
@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=20)
@given(
    seed=st.integers(0, 2**16),
    scales=st.lists(st.sampled_from([0.0, 1e-3, 1.0, 1e4, math.nan, math.inf]), min_size=1,
                    max_size=6),
    projection=st.sampled_from(PROJECTIONS),
    clip=st.sampled_from([1e-3, 1.0, 1e3]),
)  # fmt: skip
def test_one_record_moves_the_sum_by_at_most_the_clip(
    name: str, split: str, seed: int, scales: list[float], projection: str, clip: float
) -> None:
    model = made(name)
    plan = planned(projection, model)
    x, y = batch(model.layout.input_shape, len(scales), seed)
    x *= torch.tensor(scales).reshape(-1, *(1,) * (x.ndim - 1))
    engine = PerSampleGradients(model, cross_entropy)

    def sums(records: list[int], counts: tuple[int, ...]) -> Tensor:
        found = engine.clipped_sums(
            model.read(), x[records], y[records], counts,
            clip=Clip(clip, "per-layer", split=split), subspace=plan,
        )  # fmt: skip
        return found.sums.double()

    everything = list(range(len(scales)))
    alone = sums(everything, (1,) * len(scales)).norm(dim=1)
    assert alone.max() <= clip * (1 + 1e-5)
    together, without = sums(everything, (len(scales),)), sums(everything[:-1], (len(scales) - 1,))
    # a layer's gradient that is nothing but rounding depends on what else is in the batch
    slack = 2e-3
    assert (together - without).norm() <= clip * (1 + slack)
    if not math.isfinite(scales[-1]):
        assert alone[-1] == 0
        assert (together - without).norm() <= clip * slack


@given(
    norm=st.floats(1e-6, 1e6),
    widths=st.lists(st.integers(1, 10**6), min_size=1, max_size=60),
    split=st.sampled_from(["equal", "size"]),
)
def test_the_bounds_add_up_in_quadrature(norm: float, widths: list[int], split: str) -> None:
    bounds = [one.norm for one in Clip(norm, "per-layer", split=split).over(widths)]
    assert math.hypot(*bounds) == pytest.approx(norm, rel=1e-12)
    for bound, width in zip(bounds, widths, strict=True):
        share = width / sum(widths) if split == "size" else 1 / len(widths)
        assert (bound / norm) ** 2 == pytest.approx(share, rel=1e-9)


@dataclass(frozen=True)
class Mixing:
    """A projection across layers."""

    matrix: Tensor
    maps = None

    @property
    def d(self) -> int:
        return self.matrix.shape[1]

    @property
    def k(self) -> int:
        return self.matrix.shape[0]

    def project(self, x: Tensor) -> Tensor:
        return x @ self.matrix.t()


def test_a_projection_that_mixes_layers_is_refused() -> None:
    model = made("mlp")
    x, y = batch((6,), 3, 0)
    engine = PerSampleGradients(model, cross_entropy)
    with pytest.raises(ValueError, match="clipping='per-layer' needs a projection that keeps"):
        engine.clipped_sums(
            model.read(), x, y, (3,), clip=Clip(1.0, "per-layer"),
            subspace=Mixing(torch.ones(4, model.d)),
        )  # fmt: skip


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match="split='depth' is not one of equal, size"):
        Clip(1.0, "per-layer", split="depth")
