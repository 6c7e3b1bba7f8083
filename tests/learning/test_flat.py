from __future__ import annotations

import pickle
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fedsieve.learning.flat import FlatModel
from fedsieve.learning.gradients import PerSampleGradients
from fedsieve.learning.losses import cross_entropy


def perceptron(*widths):
    return nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise(widths)))


@given(st.lists(st.integers(1, 5), min_size=2, max_size=5), st.integers(0, 99))
def test_round_trip_is_exact(widths, seed):
    model = FlatModel(perceptron(*widths), (widths[0],))
    theta = torch.randn(model.d, generator=torch.Generator().manual_seed(seed))
    model.bind(theta)
    assert torch.equal(model.read(), theta)
    names = [name for name, _ in model.module.named_parameters()]
    assert names == [slot.name for slot in model.layout.slots]
    assert model.layout.slots[-1].stop == model.d == sum(p.numel() for p in model.parameters)


def test_parameters_are_views_and_follow_the_vector():
    model = FlatModel(perceptron(2, 3), (2,))
    theta = torch.zeros(model.d)
    module = model.bind(theta)
    theta += 1.0
    assert torch.equal(module(torch.ones(1, 2)), torch.full((1, 3), 3.0))
    assert model.named_views(theta)["0.weight"].data_ptr() == theta.data_ptr()
    model.named_views(theta)["0.bias"].fill_(5.0)
    assert theta.tolist() == [1.0] * 6 + [5.0] * 3


def test_the_callers_module_is_left_alone():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(inplace=True))
    before = [p.clone() for p in net.parameters()]
    model = FlatModel(net, (2,))
    model.bind(torch.zeros(model.d))
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    assert all(p.requires_grad for p in net.parameters())
    assert net[1].inplace
    assert not model.module[1].inplace


def test_double_precision_works():
    model = FlatModel(perceptron(2, 3).double(), (2,))
    assert model.read().dtype == torch.float64
    single = FlatModel(perceptron(2, 3), (2,))
    single.bind(single.read().double())
    assert single.module(torch.ones(1, 2, dtype=torch.float64)).dtype == torch.float64


def test_binding_rows_of_a_stack_one_after_another():
    model = FlatModel(perceptron(2, 2), (2,))
    stack = torch.arange(3.0)[:, None].repeat(1, model.d)
    for i, row in enumerate(stack):
        assert model.bind(row)(torch.ones(1, 2)).tolist() == [[3.0 * i, 3.0 * i]]


def test_what_travels_is_the_parameters_alone():
    model = FlatModel(perceptron(100, 100, 100, 100), (100,))
    model.bind(model.read().repeat(30, 1)[7])
    sent = pickle.dumps(model)
    assert len(sent) < 1.2 * 4 * model.d
    copy = pickle.loads(sent)
    assert torch.equal(copy.read(), model.read())
    assert copy.layout == model.layout
    copy.bind(torch.zeros(model.d))
    assert model.read().any()


@pytest.mark.parametrize(
    "theta",
    [torch.zeros(8), torch.zeros(3, 3), torch.zeros(18)[::2]],
    ids=["short", "2d", "strided"],
)
def test_vectors_that_do_not_fit_are_refused(theta):
    with pytest.raises(ValueError, match=r"contiguous vector of shape \(9,\)"):
        FlatModel(nn.Linear(2, 3), (2,)).bind(theta)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), "layer '1' is BatchNorm1d"),
        (nn.InstanceNorm1d(2, track_running_stats=True), r"layer '\(root\)' is InstanceNorm1d"),
        (nn.ReLU(), "ReLU has no parameters"),
        (nn.LazyLinear(2), "parameter 'weight' has no shape yet: a lazy layer"),
    ],
)
def test_modules_that_cannot_be_trained_are_refused(net, message):
    with pytest.raises(ValueError, match=message):
        FlatModel(net, (2,))


def test_complex_parameters_are_refused():
    net = nn.Linear(2, 2)
    net.table = nn.Parameter(torch.zeros(2, dtype=torch.complex64))
    with pytest.raises(ValueError, match=r"parameter 'table' has dtype torch\.complex64"):
        FlatModel(net, (2,))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (
            nn.Dropout(0.1),
            "'1' is Dropout, which draws .* set p=0 instead of p=0.1, or leave it out",
        ),
        (nn.Dropout2d(0.5), "'1' is Dropout2d"),
        (nn.AlphaDropout(0.5), "'1' is AlphaDropout"),
        (nn.FeatureAlphaDropout(0.5), "'1' is FeatureAlphaDropout"),
        (nn.RReLU(), r"'1' is RReLU, .* use nn\.LeakyReLU"),
        (nn.FractionalMaxPool2d(2, 1), r"'1' is FractionalMaxPool2d, .* nn\.AdaptiveMaxPool2d"),
        (nn.LSTM(2, 2, 2, dropout=0.5), "'1' is LSTM, .* set dropout=0 instead of dropout=0.5"),
        (nn.MultiheadAttention(2, 1, dropout=0.5), "'1' is MultiheadAttention"),
        (nn.TransformerEncoderLayer(2, 1, 4), r"'1\.self_attn' is MultiheadAttention"),
    ],
)
def test_modules_that_draw_are_refused(layer, message):
    with pytest.raises(ValueError, match=message):
        FlatModel(nn.Sequential(nn.Linear(2, 2), layer), (2,))


@pytest.mark.parametrize(
    "layer",
    [nn.Dropout(0.0), nn.GRU(2, 2), nn.TransformerEncoderLayer(2, 1, 4, dropout=0.0)],
)
def test_modules_that_could_draw_but_do_not_are_taken(layer):
    FlatModel(nn.Sequential(nn.Linear(2, 2), layer), (2,))


class Shifted(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(2, 2)
        self.register_buffer("shift", torch.ones(2))
        self.register_buffer("none", None)

    def forward(self, x):
        return self.inner(x) + self.shift


def test_buffers_follow_the_vector_to_its_device(monkeypatch):
    model = FlatModel(Shifted(), (2,))
    moved = []
    monkeypatch.setattr(model, "_move_buffers", moved.append)
    model.bind(torch.zeros(model.d))
    assert not moved
    with pytest.raises(RuntimeError, match="incompatible tensor type"):
        model.bind(torch.zeros(model.d, device="meta"))  # after the buffers, the parameters cannot
    assert moved == [torch.device("meta")]
    monkeypatch.undo()
    model._move_buffers(torch.device("meta"))
    assert model.module.shift.is_meta
    assert model.module.none is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_module_with_buffers_runs_on_cuda():
    model = FlatModel(Shifted(), (2,))
    on_gpu = model.bind(torch.zeros(model.d, device="cuda"))
    assert on_gpu(torch.ones(1, 2, device="cuda")).tolist() == [[1.0, 1.0]]
    assert model.bind(torch.zeros(model.d))(torch.ones(1, 2)).tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize("frozen", [["0.weight", "0.bias"], ["0.weight"], ["2.bias"]])
def test_frozen_parameters_are_neither_counted_nor_moved(frozen):
    module = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name not in frozen)
    model = FlatModel(module, (4,))
    trained = {n: p for n, p in module.named_parameters() if n not in frozen}
    assert [slot.name for slot in model.layout.slots] == list(trained)
    assert model.d == sum(p.numel() for p in trained.values())
    x, y = torch.randn(6, 4), torch.randint(0, 3, (6,))
    engine = PerSampleGradients(model, cross_entropy)
    found = engine.clipped_sums(model.read(), x, y, (6,), clip=None).sums[0]
    cross_entropy(module(x), y).sum().backward()
    expected = torch.cat([p.grad.reshape(-1) for p in trained.values()])
    torch.testing.assert_close(found, expected)
    for name in frozen:
        layer, kind = name.split(".")
        kept = getattr(module[int(layer)], kind)
        assert torch.equal(getattr(model.module[int(layer)], kind), kept)
    assert all(p.requires_grad == (n not in frozen) for n, p in module.named_parameters())
