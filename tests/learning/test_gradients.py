from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fedsieve.learning.flat import FlatModel
from fedsieve.learning.gradients import PerSampleGradients
from fedsieve.learning.layers import _bilinear
from fedsieve.learning.layout import Entries, InputBasis, Keep, Layout
from fedsieve.learning.losses import cross_entropy, squared_error
from fedsieve.learning.models.resnet18 import Block
from fedsieve.registry import component


def oracle(model, loss, theta, x, y):
    """Per-sample gradients (B, d) by vmap(grad), in float64."""
    slots = model.layout.slots
    module = pickle.loads(pickle.dumps(model)).module.double()
    x = x.double() if x.is_floating_point() else x

    def one(values, a, t):
        return loss(torch.func.functional_call(module, values, (a[None],)), t[None])[0]

    values = {s.name: theta[s.start : s.stop].view(s.shape).double() for s in slots}
    rows = torch.func.vmap(torch.func.grad(one), (None, 0, 0))(values, x, y)
    return torch.cat([rows[s.name].flatten(1) for s in slots], dim=1)


def clipped(rows, counts, clip, weights):
    """Clipped weighted sums of the rows of each client, and norms before clipping."""
    norms = rows.norm(dim=1)
    factors = torch.ones_like(norms) if clip is None else (clip / norms).clamp(max=1.0)
    usable = norms.isfinite()[:, None]
    rows = torch.where(usable, rows * (factors * weights)[:, None], 0.0)
    return torch.stack([part.sum(0) for part in rows.split(list(counts))]), norms


@dataclass(frozen=True)
class Layered:
    """A subspace given by its layer maps."""

    layout: Layout
    maps: tuple

    @property
    def d(self):
        return self.layout.d

    @property
    def k(self):
        return sum(m.width(s) for m, s in zip(self.maps, self.layout.slots, strict=True))

    def project(self, x):
        parts = []
        for layer_map, slot in zip(self.maps, self.layout.slots, strict=True):
            part = x[:, slot.start : slot.stop]
            if isinstance(layer_map, InputBasis):
                part = (part.reshape(len(x), *slot.matrix) @ layer_map.basis.to(x)).flatten(1)
            elif isinstance(layer_map, Entries):
                part = part[:, layer_map.index]
            parts.append(part)
        return torch.cat(parts, dim=1)


@dataclass(frozen=True)
class Mixing:
    """A subspace that mixes layers: any matrix (k, d)."""

    matrix: torch.Tensor
    maps = None

    @property
    def d(self):
        return self.matrix.shape[1]

    @property
    def k(self):
        return self.matrix.shape[0]

    def project(self, x):
        return x @ self.matrix.to(x).t()


def subspace(kind, layout, generator, dtype=torch.float64):
    if kind == "identity":
        return None
    if kind == "mixed":
        return Mixing(torch.randn(7, layout.d, generator=generator, dtype=dtype))
    maps = []
    for i, slot in enumerate(layout.slots):
        inputs = slot.matrix[1]
        if kind == "keep" or (kind == "alternating" and i % 3 == 0):
            maps.append(Keep())
        elif kind == "basis" or (kind == "alternating" and i % 3 == 1):
            width = max(1, inputs // 2)
            maps.append(InputBasis(torch.randn(inputs, width, generator=generator, dtype=dtype)))
        else:
            share = 0.005 if kind == "few" else 0.4
            kept = torch.rand(slot.size, generator=generator) < share
            maps.append(Entries(kept.nonzero().squeeze(1)))
    return Layered(layout, tuple(maps))


class Branches(nn.Module):
    """Two ways around, an unused layer, and a layer whose output the loss ignores."""

    def __init__(self):
        super().__init__()
        self.left = nn.Linear(6, 5)
        self.right = nn.Linear(6, 5)
        self.unused = nn.Linear(3, 2)
        self.ignored = nn.Linear(6, 2)
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        self.ignored(x)
        return self.head(torch.tanh(self.left(x)) * self.right(x))


class Normed(nn.Module):
    """A sequence model: embedding, layer normalisations, linear layers on several rows."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(7, 6, padding_idx=0)
        self.norm = nn.LayerNorm(6)
        self.mix = nn.Linear(6, 6)
        self.scale = nn.RMSNorm(6)
        self.head = nn.Linear(6, 3, bias=False)

    def forward(self, tokens):
        h = self.table(tokens)
        h = h + torch.tanh(self.mix(self.norm(h)))
        return self.head(self.scale(h)).mean(1)


def convolutional():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1, padding_mode="reflect"),
        nn.GroupNorm(2, 4),
        nn.PReLU(4),
        nn.Conv2d(4, 6, (1, 3), padding="same", groups=2, dilation=(1, 2), bias=False),
        nn.InstanceNorm2d(6, affine=True),
        nn.PReLU(),
        nn.Flatten(),
        nn.Linear(6 * 4 * 5, 3),
    )


def one_dimensional():
    return nn.Sequential(
        nn.Conv1d(2, 4, 3, padding=2, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(20, 3)
    )


MODELS = {
    "softmax": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), (3, 4), 0),
    "mlp": (
        lambda: component("model", "mlp").build(input_shape=(9,), outputs=3, hidden=(8, 5)),
        (9,),
        0,
    ),
    "branches": (Branches, (6,), 0),
    "sequence": (
        lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Flatten(), nn.Linear(30, 3)),
        (6, 4),
        0,
    ),
    "normed": (Normed, (5,), 7),
    "long": (Normed, (40,), 7),
    "tokens": (
        lambda: component("model", "softmax").build(input_shape=(4,), outputs=3, vocabulary=5),
        (4,),
        5,
    ),
    "scalar tokens": (lambda: nn.Sequential(nn.Embedding(4, 3), nn.Tanh(), nn.Linear(3, 3)), (), 4),
    "convolutional": (convolutional, (2, 8, 9), 0),
    "residual": (
        lambda: nn.Sequential(
            Block(2, 4, 1, 2), Block(4, 6, 2, 3), nn.Flatten(), nn.Linear(6 * 9, 3)
        ),
        (2, 5, 6),
        0,
    ),
    "one-dimensional": (one_dimensional, (2, 7), 0),
    "cnn": (
        lambda: component("model", "cnn").build(input_shape=(1, 8, 8), outputs=3),
        (1, 8, 8),
        0,
    ),
}
KINDS = ("identity", "keep", "basis", "entries", "few", "alternating", "mixed")
COUNTS = (3, 0, 4, 1, 0)


def case(name, dtype=torch.float64, seed=0, size=8):
    make, shape, vocabulary = MODELS[name]
    generator = torch.Generator().manual_seed(seed)
    model = FlatModel(make().to(dtype), shape)
    theta = 0.25 * torch.randn(model.d, generator=generator, dtype=dtype)
    if vocabulary:
        x = torch.randint(vocabulary, (size, *shape), generator=generator)
    else:
        x = torch.randn(size, *shape, generator=generator, dtype=dtype)
    return model, theta, x, torch.randint(3, (size,), generator=generator), generator


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MODELS)
def test_closed_forms_equal_vmap_in_float64(name, kind):
    model, theta, x, y, generator = case(name)
    plan = subspace(kind, model.layout, generator)
    rows = oracle(model, cross_entropy, theta, x, y)
    rows = rows if plan is None else plan.project(rows)
    weights = torch.rand(len(x), generator=generator, dtype=torch.float64)
    clip = float(rows.norm(dim=1).median()) or 1.0
    engine = PerSampleGradients(model, cross_entropy, method="closed-form")
    sums, norms = clipped(rows, COUNTS, clip, weights)
    for own in (theta, theta.repeat(len(COUNTS), 1)):
        found = engine.clipped_sums(own, x, y, COUNTS, clip=clip, subspace=plan, weights=weights)
        close(found.sums, sums, 1e-9)
        close(found.norms, norms, 1e-9)
        assert found.bad.tolist() == [0] * len(COUNTS)
    found = engine.clipped_sums(theta, x, y, COUNTS, clip=None, subspace=plan)
    close(found.sums, clipped(rows, COUNTS, None, torch.ones_like(weights))[0], 1e-9)
    close(engine.per_sample(theta, x, y, plan), rows, 1e-9)


def close(found, expected, tolerance):
    """Relative to the norm of the whole: entries that cancel to zero have rounding of their own."""
    assert found.shape == expected.shape
    error = (found.double() - expected.double()).norm()
    assert float(error) <= tolerance * float(expected.double().norm()) + 1e-300


@pytest.mark.parametrize("kind", ["identity", "alternating", "mixed"])
@pytest.mark.parametrize("name", MODELS)
def test_closed_forms_equal_vmap_in_float32(name, kind):
    model, theta, x, y, generator = case(name, torch.float32)
    plan = subspace(kind, model.layout, generator, torch.float32)
    rows = oracle(model, cross_entropy, theta, x, y)
    rows = rows if plan is None else plan.project(rows)
    clip = float(rows.norm(dim=1).median()) or 1.0
    sums, norms = clipped(rows, COUNTS, clip, torch.ones(len(x), dtype=torch.float64))
    engine = PerSampleGradients(model, cross_entropy, method="closed-form")
    found = engine.clipped_sums(theta, x, y, COUNTS, clip=clip, subspace=plan)
    assert found.sums.dtype == torch.float32
    close(found.sums, sums, 1e-5)
    close(found.norms, norms, 1e-5)


def test_resnet18_equals_one_backward_pass_per_sample():
    generator = torch.Generator().manual_seed(0)
    net = component("model", "resnet18").build(
        input_shape=(1, 8, 8), outputs=3, generator=generator
    )
    model = FlatModel(net, (1, 8, 8))
    x, y = torch.randn(2, 1, 8, 8, generator=generator), torch.tensor([0, 2])
    theta = model.read()
    engine = PerSampleGradients(model, cross_entropy, method="closed-form")
    found = engine.clipped_sums(theta, x, y, (1, 1), clip=None)
    one_by_one = [engine.mean(theta, x[i : i + 1], y[i : i + 1]) for i in range(2)]
    close(found.sums, torch.stack(one_by_one), 1e-5)


@pytest.mark.parametrize("kind", ["identity", "basis", "entries", "mixed"])
@pytest.mark.parametrize("method", ["closed-form", "functional"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_sample_that_is_not_finite_counts_as_zero_and_is_reported(kind, method, value):
    model, theta, x, y, generator = case("convolutional")
    plan = subspace(kind, model.layout, generator)
    x[[0, 4, 7]] = value  # the fourth client has no other sample
    engine = PerSampleGradients(model, cross_entropy, method=method)
    found = engine.clipped_sums(theta, x, y, COUNTS, clip=0.1, subspace=plan)
    good = [1, 2, 3, 5, 6]
    expected = engine.clipped_sums(
        theta, x[good], y[good], (2, 0, 3, 0, 0), clip=0.1, subspace=plan
    )
    close(found.sums, expected.sums, 1e-12)
    assert found.bad.tolist() == [1, 0, 1, 1, 0]
    assert not found.norms[[0, 4, 7]].isfinite().any()
    close(found.norms[good], expected.norms, 1e-12)
    own = theta.repeat(len(COUNTS), 1)
    separate = engine.clipped_sums(own, x, y, COUNTS, clip=0.1, subspace=plan)
    close(separate.sums, found.sums, 1e-12)
    assert torch.equal(separate.bad, found.bad)
    alone = engine.clipped_sums(theta, x[:1], y[:1], (1,), clip=0.1, subspace=plan)
    assert not alone.sums.any()
    assert alone.bad.tolist() == [1]


@settings(max_examples=25)
@given(
    counts=st.lists(st.integers(0, 5), min_size=1, max_size=6),
    clip=st.floats(1e-3, 1e3),
    memory=st.sampled_from([1, 1000, 2**28]),
    seed=st.integers(0, 100),
)
def test_any_division_into_clients_and_passes(counts, clip, memory, seed):
    model, theta, x, y, _ = case("mlp", seed=seed, size=sum(counts))
    engine = PerSampleGradients(model, cross_entropy, method="closed-form", memory=memory)
    found = engine.clipped_sums(theta, x, y, counts, clip=clip)
    rows = oracle(model, cross_entropy, theta, x, y) if len(x) else theta.new_zeros(0, model.d)
    sums, _ = clipped(rows, counts, clip, torch.ones(len(x), dtype=torch.float64))
    close(found.sums, sums, 1e-9)
    own = theta.repeat(len(counts), 1)
    close(engine.clipped_sums(own, x, y, counts, clip=clip).sums, sums, 1e-9)
    # The sensitivity: no client's sum exceeds clip times its number of samples.
    bound = clip * torch.tensor(counts, dtype=torch.float64)
    assert (found.sums.norm(dim=1) <= bound * (1 + 1e-12)).all()


@pytest.mark.parametrize("name", ["long", "normed", "convolutional", "residual"])
def test_gradients_too_large_to_keep_are_built_in_pieces(monkeypatch, name):
    monkeypatch.setattr(_bilinear, "DENSE_BYTES", 0)
    monkeypatch.setattr(_bilinear, "CACHED", 50)
    model, theta, x, y, _ = case(name)
    engine = PerSampleGradients(model, cross_entropy, method="closed-form")
    found = engine.clipped_sums(theta, x, y, COUNTS, clip=0.3)
    rows = oracle(model, cross_entropy, theta, x, y)
    sums, norms = clipped(rows, COUNTS, 0.3, torch.ones(len(x), dtype=torch.float64))
    close(found.sums, sums, 1e-9)
    close(found.norms, norms, 1e-9)


def test_no_sample_at_all_gives_zeros():
    model, theta, x, y, _ = case("mlp", size=0)
    engine = PerSampleGradients(model, cross_entropy)
    for own in (theta, theta.repeat(2, 1)):
        found = engine.clipped_sums(own, x, y, (0, 0), clip=1.0)
        assert found.sums.shape == (2, model.d)
        assert not found.sums.any()
        assert found.bad.tolist() == [0, 0]
    assert engine.per_sample(theta, x, y).shape == (0, model.d)


def test_a_zero_gradient_is_left_as_it_is():
    model = FlatModel(nn.Linear(2, 1, bias=False).double(), (2,))
    x, y = torch.eye(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    theta = torch.tensor([0.0, 3.0], dtype=torch.float64)
    found = PerSampleGradients(model, squared_error).clipped_sums(theta, x, y, (2,), clip=1.0)
    torch.testing.assert_close(found.sums, torch.tensor([[0.0, 1.0]], dtype=torch.float64))
    assert found.norms.tolist() == [0.0, 3.0]
    assert found.losses.tolist() == [0.0, 4.5]


def test_parameters_of_their_own_give_each_client_its_own_gradients():
    model, theta, x, y, generator = case("cnn")
    thetas = theta + 0.1 * torch.randn(
        len(COUNTS), model.d, generator=generator, dtype=torch.float64
    )
    engine = PerSampleGradients(model, cross_entropy, method="closed-form")
    found = engine.clipped_sums(thetas, x, y, COUNTS, clip=0.3)
    start = 0
    for client, count in enumerate(COUNTS):
        part = slice(start, start + count)
        alone = engine.clipped_sums(thetas[client], x[part], y[part], (count,), clip=0.3)
        close(found.sums[client], alone.sums[0], 1e-12)
        start += count


def test_mean_is_the_mean_of_the_rows():
    model, theta, x, y, _ = case("branches")
    engine = PerSampleGradients(model, cross_entropy)
    out = torch.full_like(theta, 7.0)
    found = engine.mean(theta, x, y, out=out)
    assert found.data_ptr() == out.data_ptr()
    close(found, oracle(model, cross_entropy, theta, x, y).mean(0), 1e-12)
    close(engine.mean(theta, x, y), found, 1e-12)


def test_bfloat16_runs_the_model_narrow_and_the_rest_wide():
    model, theta, x, y, _ = case("mlp", torch.float32)
    wide = PerSampleGradients(model, cross_entropy).clipped_sums(theta, x, y, COUNTS, clip=1.0)
    engine = PerSampleGradients(
        model, cross_entropy, method="closed-form", compute_dtype=torch.bfloat16
    )
    narrow = engine.clipped_sums(theta, x, y, COUNTS, clip=1.0)
    assert narrow.sums.dtype == torch.float32
    error = (narrow.sums - wide.sums).norm() / wide.sums.norm()
    assert 1e-5 < error < 0.1  # bfloat16 keeps 8 bits; zero would mean that nothing was narrow


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_means_of_many_clients_in_one_pass_equal_one_pass_each(name):
    generator = torch.Generator().manual_seed(3)
    module = component("model", name).build(
        input_shape=(1, 12, 12), outputs=4, hidden=(5,), generator=generator
    )
    engine = PerSampleGradients(FlatModel(module, (1, 12, 12)), cross_entropy)
    start = engine.model.read()
    theta = start + 0.1 * torch.randn(3, len(start), generator=generator)
    x = torch.randn(6, 1, 12, 12, generator=generator)
    y = torch.randint(0, 4, (6,), generator=generator)
    each = [engine.mean(theta[i], x[2 * i : 2 * i + 2], y[2 * i : 2 * i + 2]) for i in range(3)]
    torch.testing.assert_close(engine.means(theta, x, y), torch.stack(each), rtol=1e-4, atol=1e-6)


class Reversed(nn.Module):
    """Uses a weight outside its layer: no chain."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) + 0.1 * (x.flip(1) @ self.inner.weight.T)


def _twice() -> nn.Module:
    shared = nn.Linear(6, 6)
    return nn.Sequential(shared, nn.Tanh(), shared, nn.ReLU(), nn.Linear(6, 4, bias=False))


def _partly_frozen() -> nn.Module:
    module = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
    module[0].weight.requires_grad_(False)
    return module


def _frozen_head() -> nn.Module:
    module = nn.Sequential(nn.Linear(6, 5), nn.Sequential(nn.GELU(), nn.Linear(5, 4)))
    module[1][1].requires_grad_(False)
    return module


def _hooked() -> nn.Module:
    module = nn.Sequential(nn.Linear(6, 4), nn.Tanh())
    module[1].register_forward_hook(_doubled)
    return module


def _doubled(_module: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
    return 2 * output


@pytest.mark.parametrize(
    ("make", "fused"),
    [
        (lambda: nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)), True),
        (lambda: nn.Linear(6, 4), True),
        (_twice, True),
        (_partly_frozen, False),
        (_frozen_head, False),
        (_hooked, False),
        (lambda: nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6), nn.Linear(6, 4)), False),
        (Reversed, False),
    ],
)
def test_a_step_in_place_is_a_step_along_the_mean_gradient(
    make: Callable[[], nn.Module], fused: bool
):
    generator = torch.Generator().manual_seed(3)
    engine = PerSampleGradients(FlatModel(make(), (6,)), cross_entropy)
    assert (engine._linear is not None) == fused
    x, y = torch.randn(8, 6, generator=generator), torch.randint(0, 4, (8,), generator=generator)
    start = engine.model.read()
    for one in (engine, pickle.loads(pickle.dumps(engine))):
        theta = start.clone()
        for _ in range(2):
            expected = theta - 0.3 * engine.mean(theta, x, y)
            one.descend(theta, x, y, lr=0.3)
            torch.testing.assert_close(theta, expected, rtol=1e-5, atol=1e-6)
