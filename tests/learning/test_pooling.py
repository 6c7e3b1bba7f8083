"""Quick max pooling against torch's: the same bits, forward and backward."""

import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fedsieve.learning import _pooling
from fedsieve.learning._pooling import LANES, QuickMaxPool2d, quicken
from fedsieve.learning.flat import FlatModel


class Own(nn.MaxPool2d):
    """A user's pooling."""


def bits(pool, x):
    """The values of a pooling, and the derivative of their sum weighted by numbers of their own."""
    x = x.clone().requires_grad_()
    out = pool(x)
    weights = torch.arange(out.numel(), dtype=out.dtype).view(out.shape).cos()
    (derivative,) = torch.autograd.grad(out, x, weights)
    return out.shape, out.detach().numpy().tobytes(), derivative.numpy().tobytes()


@pytest.fixture(autouse=True)
def small_is_worth_it(monkeypatch):
    monkeypatch.setattr(_pooling, "WORTH", 0)


@settings(max_examples=150, deadline=None)
@given(
    size=st.tuples(st.integers(0, 3), st.integers(1, 20), st.integers(5, 13), st.integers(5, 13)),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    padded=st.booleans(),
    ceil=st.booleans(),
    seed=st.integers(0, 99),
    kind=st.sampled_from(["normal", "ties", "odd"]),
    double=st.booleans(),
)
def test_same_bits(size, kernel, stride, dilation, padded, ceil, seed, kind, double):
    x = torch.randn(size, generator=torch.Generator().manual_seed(seed))
    if kind == "ties":
        x = x.round()
    if kind == "odd":
        x[x > 1], x[x < -1] = torch.nan, -torch.inf
    x = x.double() if double else x
    options = {"padding": kernel // 2 * padded, "dilation": dilation, "ceil_mode": ceil}
    ours = QuickMaxPool2d(kernel, stride, **options)
    assert bits(ours, x) == bits(nn.MaxPool2d(kernel, stride, **options), x)


@pytest.mark.parametrize("channels", [1, LANES])
def test_under_vmap_and_in_other_layouts(channels):
    x = torch.randn(3, 2, channels, 6, 8, generator=torch.Generator().manual_seed(0))
    ours, theirs = QuickMaxPool2d(2), nn.MaxPool2d(2)

    def derivative(pool):
        return torch.func.grad(lambda one: pool(one).square().sum())

    assert torch.equal(torch.vmap(derivative(ours))(x), torch.vmap(derivative(theirs))(x))
    last = x[0].contiguous(memory_format=torch.channels_last)
    assert torch.equal(ours(last), theirs(x[0]))
    assert torch.equal(ours(x[0, 0]), theirs(x[0, 0]))  # one sample without a batch


def test_takes_the_place_of_torchs_own_and_of_no_other():
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.MaxPool2d(2), Own(2), nn.MaxPool2d(2, return_indices=True)
    )
    model = FlatModel(net, (1, 16, 16))
    kinds = [QuickMaxPool2d, Own, nn.MaxPool2d]
    assert [type(part) for part in model.module][1:] == kinds
    assert [type(part) for part in pickle.loads(pickle.dumps(model)).module][1:] == kinds
    assert [type(part) for part in net][1:] == [nn.MaxPool2d, Own, nn.MaxPool2d]


def test_hooks_and_settings_stay():
    pool = nn.MaxPool2d(3, 2, padding=1)
    seen = []
    pool.register_forward_hook(lambda *_: seen.append(1))
    quicken(pool)
    pool(torch.zeros(1, 8, 7, 7))
    assert seen == [1]
    assert (pool.kernel_size, pool.stride, pool.padding) == (3, 2, 1)


def test_little_work_is_left_to_torch(monkeypatch):
    asked = []
    found = nn.MaxPool2d.forward
    monkeypatch.setattr(nn.MaxPool2d, "forward", lambda *a: asked.append(1) or found(*a))
    monkeypatch.setattr(_pooling, "WORTH", 2 * 8 * 16)
    for batch in (1, 2):
        QuickMaxPool2d(2)(torch.zeros(batch, 8, 4, 4))
    assert asked == [1]
