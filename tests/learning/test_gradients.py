"""Clipped sums and means of per-sample gradients: the closed forms against vmap in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fedsieve.learning.flat import FlatModel
from fedsieve.learning.gradients import PerSampleGradients
from fedsieve.learning.layers import _bilinear
from fedsieve.learning.losses import cross_entropy, squared_error
from fedsieve.registry import component
from tests.learning.gradient_cases import (
    COUNTS,
    KINDS,
    MODELS,
    case,
    clipped,
    close,
    oracle,
    subspace,
)


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
    close(found.sums, clipped(rows, COUNTS, None)[0], 1e-9)
    close(engine.per_sample(theta, x, y, plan), rows, 1e-9)


@pytest.mark.parametrize("kind", ["identity", "alternating", "mixed"])
@pytest.mark.parametrize("name", MODELS)
def test_closed_forms_equal_vmap_in_float32(name, kind):
    model, theta, x, y, generator = case(name, torch.float32)
    plan = subspace(kind, model.layout, generator, torch.float32)
    rows = oracle(model, cross_entropy, theta, x, y)
    rows = rows if plan is None else plan.project(rows)
    clip = float(rows.norm(dim=1).median()) or 1.0
    sums, norms = clipped(rows, COUNTS, clip)
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
    sums, _ = clipped(rows, counts, clip)
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
    sums, norms = clipped(rows, COUNTS, 0.3)
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
