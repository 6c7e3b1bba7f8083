from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from fedsieve.learning.flat import FlatModel
from fedsieve.learning.models import initialise
from fedsieve.registry import component, components

SHAPES = {
    "softmax": [(5,), (1, 28, 28)],
    "mlp": [(5,), (3, 32, 32)],
    "cnn": [(1, 28, 28), (3, 32, 32), (1, 8, 8), (1, 4, 5), (2, 16, 17)],
    "resnet18": [(3, 32, 32), (1, 28, 28), (1, 8, 8)],
}


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_every_registered_model_is_tested():
    assert {c.name for c in components("model")} == set(SHAPES)


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_and_seeds(name):
    for shape in SHAPES[name]:
        net = component("model", name).build(
            input_shape=shape, outputs=3, hidden=(6,), generator=seeded(1)
        )
        assert net(torch.randn(2, *shape, generator=seeded(0))).shape == (2, 3)
    again, other, fresh = (
        component("model", name).build(input_shape=shape, outputs=3, hidden=(6,), generator=g)
        for g in (seeded(1), seeded(2), None)
    )
    theta = FlatModel(net, shape).read()
    assert torch.equal(theta, FlatModel(again, shape).read())
    assert not torch.equal(theta, FlatModel(other, shape).read())
    assert not torch.equal(theta, FlatModel(fresh, shape).read())


@pytest.mark.parametrize("name", SHAPES)
def test_no_global_generator_is_touched(name):
    before = torch.random.get_rng_state()
    component("model", name).build(input_shape=(1, 8, 8), outputs=3)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("name", "shape", "options", "d"),
    [
        ("softmax", (1, 28, 28), {}, 7_850),
        ("mlp", (1, 28, 28), {"hidden": (256,)}, 203_530),
        ("mlp", (10,), {"hidden": ()}, 110),
        ("cnn", (1, 28, 28), {"groups": 0}, 147_146),
        ("cnn", (1, 28, 28), {}, 147_146 + 2 * (16 + 32)),
        ("resnet18", (3, 32, 32), {}, 11_173_962),
    ],
)
def test_numbers_of_parameters(name, shape, options, d):
    net = component("model", name).build(input_shape=shape, outputs=10, **options)
    assert sum(p.numel() for p in net.parameters()) == d


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
def test_hidden_units_do_as_they_are_told(activation):
    settings = {"input_shape": (5,), "outputs": 3, "hidden": (7,), "activation": activation}
    net = component("model", "mlp").build(**settings, generator=seeded(1))
    *_, first, _, last = net
    x = torch.randn(4, 5, generator=seeded(2))
    torch.testing.assert_close(net(x), last(getattr(torch, activation)(first(x))))


@pytest.mark.parametrize("name", ["softmax", "mlp"])
def test_tokens_are_looked_up(name):
    net = component("model", name).build(
        input_shape=(6,), outputs=9, vocabulary=9, embedding=4, generator=seeded(0)
    )
    tokens = torch.randint(9, (2, 6), generator=seeded(1))
    assert net(tokens).shape == (2, 9)
    assert net[0].weight.shape == (9, 4)


def test_initial_laws_are_those_of_pytorch():
    net = nn.Sequential(
        nn.Linear(400, 300), nn.Conv2d(8, 40, 5, groups=2), nn.Embedding(300, 100, padding_idx=2),
        nn.GroupNorm(2, 4), nn.PReLU(),
    )  # fmt: skip
    for parameter in net.parameters():
        parameter.data.fill_(9.0)
    initialise(net, seeded(0))
    for layer, fan_in in ((net[0], 400), (net[1], 100)):
        for parameter in (layer.weight.detach(), layer.bias.detach()):
            bound = 1 / math.sqrt(fan_in)
            assert parameter.abs().max() <= bound
            size = parameter.numel()
            # A uniform law on +-b has variance b^2 / 3, and its square a variance of 4 b^4 / 45.
            error = parameter.square().mean() - bound**2 / 3
            assert abs(float(error)) < 4 * bound**2 * math.sqrt(4 / 45 / size)
            assert abs(float(parameter.mean())) < 4 * bound / math.sqrt(3 * size)
    table = net[2].weight.detach()
    assert not table[2].any()
    assert abs(float(table[3:].square().mean()) - 1) < 4 * math.sqrt(2 / table[3:].numel())
    assert net[3].weight.tolist() == [1.0] * 4
    assert net[3].bias.tolist() == [0.0] * 4
    assert net[4].weight.tolist() == [0.25]


def test_a_layer_of_unknown_law_is_refused():
    with pytest.raises(TypeError, match="layer '0' is LSTM"):
        initialise(nn.Sequential(nn.LSTM(2, 2)))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mlp", {"input_shape": (3,), "hidden": (4, 0)}, r"hidden=\(4, 0\)"),
        ("mlp", {"input_shape": (3,), "activation": "elu"}, "'elu' is not one of relu, tanh, sigm"),
        ("cnn", {"input_shape": (3,)}, r"input_shape=\(3,\)"),
        ("cnn", {"input_shape": (1, 3, 9)}, "at least 4x4"),
        ("cnn", {"input_shape": (1, 28, 28), "groups": 3}, "groups=3"),
        ("resnet18", {"input_shape": (1, 7, 32)}, "at least 8x8"),
        ("resnet18", {"input_shape": (1, 32, 32), "groups": 48}, "groups=48"),
    ],
)
def test_what_cannot_be_built_is_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        component("model", name).build(outputs=2, **options)
