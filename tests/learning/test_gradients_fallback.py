"""Modules that the closed forms do not cover: a notice and right numbers, or a refusal."""

from __future__ import annotations

import pickle
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional

from fedsieve.learning.flat import FlatModel
from fedsieve.learning.gradients import PerSampleGradients, SlowPathWarning
from fedsieve.learning.layers import NoClosedFormError, form_of
from fedsieve.learning.losses import cross_entropy
from tests.learning.gradient_cases import clipped


class Positional(nn.Module):
    """A bias-like parameter, and a scale of its own."""

    def __init__(self):
        super().__init__()
        self.place = nn.Parameter(0.1 * torch.arange(4.0))
        self.scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, x):
        return torch.sin(x + self.place) * self.scale


class Functional(nn.Module):
    """Uses a layer's weight without calling the layer."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(torch.tanh(functional.linear(x, self.first.weight.t(), self.first.bias)))


class Twice(Functional):
    def forward(self, x):
        return self.head(torch.tanh(self.first(torch.tanh(self.first(x)))))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.b = nn.Linear(4, 4)
        self.b.weight = self.a.weight
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.b(torch.tanh(self.a(x)))))


class InPlace(Functional):
    def forward(self, x):
        h = self.first(x)
        h = h * 1.0
        h.mul_(2.0)
        return self.head(functional.relu_(self.first(x)) + h.detach())


class Regrouped(Functional):
    """Its first layer sees the samples' features as rows: not one row per sample."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(2, 2)

    def forward(self, x):
        return self.head(torch.tanh(self.first(x.reshape(-1, 2)).reshape(-1, 4)))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        h = x[:, :, None] * torch.linspace(0.1, 1.0, 4).to(x)
        return self.head(self.attention(h, h, h, need_weights=False)[0].mean(1))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.LSTM(1, 3, batch_first=True)
        self.head = nn.Linear(3, 3)

    def forward(self, x):
        return self.head(self.cell(x[:, :, None])[0][:, -1])


class Branching(Functional):
    """Its path depends on a number, which vmap refuses."""

    def forward(self, x):
        rows = [self.first(r) if float(r.sum()) > 0 else torch.sin(self.first(r)) for r in x]
        return self.head(torch.stack(rows))


def positional():
    return nn.Sequential(nn.Linear(4, 4), Positional(), nn.Linear(4, 3))


def parametrised():
    return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), nn.Linear(4, 3))


def batch(dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(5, 4, generator=generator, dtype=dtype)
    return x, torch.randint(3, (5,), generator=generator)


@pytest.mark.parametrize(
    ("make", "notice"),
    [
        (positional, r"no closed form for 1 \(Positional\)"),
        (Positional, "no closed form for Positional; torch.func"),
        (parametrised, "no closed form for 0"),
        (Functional, "Functional: "),
        (Twice, "layer 'first' runs more than once"),
        (Tied, "tied weights"),
        (InPlace, "InPlace: "),
        (Regrouped, "layer 'first' sees 4 rows for 2 samples"),
        (Attention, "Attention: "),
        (Recurrent, "layer 'cell' does not map one tensor to one tensor"),
        (Branching, "one backward pass per sample"),
    ],
)
def test_fallbacks_give_the_right_numbers_with_one_notice(make, notice):
    torch.manual_seed(0)
    model = FlatModel(make().double(), (4,))
    theta = model.read()
    x, y = batch()
    engine = PerSampleGradients(model, cross_entropy)
    with pytest.warns(SlowPathWarning, match=notice) as caught:
        found = engine.clipped_sums(theta, x, y, (2, 0, 3), clip=0.5)
    assert all("\n" not in str(w.message) for w in caught)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the notice comes once
        rows = engine.per_sample(theta, x, y)
    own = engine.clipped_sums(theta.repeat(3, 1), x, y, (2, 0, 3), clip=0.5)
    torch.testing.assert_close(own.sums, found.sums, rtol=1e-12, atol=1e-14)
    expected = torch.stack([engine.mean(theta, x[i : i + 1], y[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(rows, expected, rtol=1e-9, atol=1e-12)
    sums, _ = clipped(expected, (2, 0, 3), 0.5)
    torch.testing.assert_close(found.sums, sums, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("make", [Functional, Twice, Tied])
def test_the_closed_form_can_be_insisted_on(make):
    torch.manual_seed(0)
    model = FlatModel(make().double(), (4,))
    x, y = batch()
    engine = PerSampleGradients(model, cross_entropy, method="closed-form")
    with pytest.raises(NoClosedFormError):
        engine.clipped_sums(model.read(), x, y, (5,), clip=1.0)


class Centred(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(x - x.mean(0))


@pytest.mark.parametrize("method", ["auto", "closed-form", "functional"])
def test_a_model_that_mixes_samples_is_refused(method):
    torch.manual_seed(0)
    model = FlatModel(Centred(), (4,))
    x, y = batch(torch.float32)
    engine = PerSampleGradients(model, cross_entropy, method=method)
    with pytest.raises(ValueError, match="Centred mixes the samples of a batch"):
        engine.clipped_sums(model.read(), x, y, (5,), clip=1.0)


def test_the_check_waits_for_two_usable_samples():
    torch.manual_seed(0)
    model = FlatModel(Centred(), (4,))
    x, y = batch(torch.float32)
    engine = PerSampleGradients(model, cross_entropy)
    engine.clipped_sums(model.read(), x[:1], y[:1], (1,), clip=1.0)  # alone, it mixes with nobody
    spoilt = x.clone()
    spoilt[[0, 2, 3, 4]] = float("nan")
    engine.clipped_sums(model.read(), spoilt[:2], y[:2], (2,), clip=1.0)
    with pytest.raises(ValueError, match="mixes the samples"):
        engine.clipped_sums(model.read(), x, y, (5,), clip=1.0)


class Split(Functional):
    """Runs its first layer in two halves once the batch is large."""

    def forward(self, x):
        parts = x.split(2) if len(x) > 2 else [x]
        return self.head(torch.tanh(torch.cat([self.first(part) for part in parts])))


@pytest.mark.parametrize("method", ["auto", "closed-form"])
def test_a_model_that_leaves_its_form_later_falls_back_then(method):
    torch.manual_seed(0)
    model = FlatModel(Split().double(), (4,))
    theta = model.read()
    x, y = batch()
    engine = PerSampleGradients(model, cross_entropy, method=method)
    first = engine.clipped_sums(theta, x[:2], y[:2], (2,), clip=0.5)
    if method == "closed-form":
        with pytest.raises(NoClosedFormError, match="runs more than once"):
            engine.clipped_sums(theta, x, y, (2, 3), clip=0.5)
        return
    with pytest.warns(SlowPathWarning, match="layer 'first' runs more than once"):
        later = engine.clipped_sums(theta, x, y, (2, 3), clip=0.5)
    torch.testing.assert_close(later.sums[:1], first.sums, rtol=1e-9, atol=1e-12)
    assert later.sums[1].any()
    # Batches that the form fits are done by it as before, to the bit; the notice does not repeat.
    again = engine.clipped_sums(theta, x[:2], y[:2], (2,), clip=0.5)
    assert torch.equal(again.sums, first.sums)
    assert torch.equal(engine.clipped_sums(theta, x, y, (2, 3), clip=0.5).sums, later.sums)


class Choosing(nn.Module):
    """Which layer it uses depends on its parameters."""

    def __init__(self):
        super().__init__()
        self.choice = nn.Linear(4, 3)
        self.other = nn.Linear(4, 3)

    def forward(self, x):
        return self.choice(x) if float(self.choice.bias.detach()[0]) > 0 else self.other(x)


def test_clients_whose_parameters_lead_to_other_layers():
    torch.manual_seed(0)
    model = FlatModel(Choosing().double(), (4,))
    thetas = torch.randn(2, model.d, dtype=torch.float64)
    place = next(s.start for s in model.layout.slots if s.name == "choice.bias")
    thetas[:, place] = torch.tensor([1.0, -1.0])
    x, y = batch()
    engine = PerSampleGradients(model, cross_entropy)
    with pytest.warns(SlowPathWarning, match="is used by some of the clients only"):
        found = engine.clipped_sums(thetas, x, y, (2, 3), clip=None)
    torch.testing.assert_close(found.sums[0], 2 * engine.mean(thetas[0], x[:2], y[:2]))
    torch.testing.assert_close(found.sums[1], 3 * engine.mean(thetas[1], x[2:], y[2:]))


@pytest.mark.parametrize("option", [{"max_norm": 1.0}, {"scale_grad_by_freq": True}])
def test_embeddings_that_look_across_samples_have_no_closed_form(option):
    layer = nn.Embedding(3, 2, **option)
    form = form_of(layer)
    with pytest.raises(NoClosedFormError, match="max_norm or scale_grad_by_freq"):
        form(layer, torch.zeros(1, 2, dtype=torch.int64), torch.zeros(1, 2, 2))


class Noise(nn.Module):
    """Draws in training mode, and cannot be told from its type."""

    def forward(self, x):
        return functional.dropout(x, 0.5, self.training)


def test_noise_of_a_modules_own_is_quiet_while_the_ways_are_compared():
    torch.manual_seed(0)
    model = FlatModel(nn.Sequential(nn.Linear(4, 50), Noise(), nn.Linear(50, 3)), (4,))
    x, y = batch(torch.float32)
    engine = PerSampleGradients(model, cross_entropy, method="closed-form")
    theta = model.read()
    first = engine.clipped_sums(theta, x, y, (5,), clip=1.0)
    assert model.module.training
    assert not torch.equal(first.sums, engine.clipped_sums(theta, x, y, (5,), clip=1.0).sums)


def test_a_settled_engine_gives_the_same_bits_in_whatever_order_batches_come():
    generator = torch.Generator().manual_seed(5)
    net = nn.Sequential(nn.Linear(30, 40), nn.Tanh(), nn.Linear(40, 3))
    model = FlatModel(net, (30,))
    theta = model.read()
    x, y = torch.randn(40, 30, generator=generator), torch.randint(3, (40,), generator=generator)
    spoilt = x.clone()
    spoilt[1:] = float("nan")
    batches = [spoilt[:9], x[:1], x]
    engine = PerSampleGradients(model, cross_entropy)
    assert not engine.settle(theta, spoilt, y)
    assert not engine.settle(theta, x[:0], y[:0])
    records = torch.cat([spoilt, x[5:7]])
    assert engine.settle(theta, records, torch.cat([y, y[5:7]]))
    copies = [pickle.loads(pickle.dumps(engine)) for _ in range(2)]

    def run(copy, order):
        found = {}
        for i in order:
            b = batches[i]
            found[i] = copy.clipped_sums(theta, b, y[: len(b)], (len(b),), clip=0.1).sums
        return found

    one, other = run(copies[0], (0, 1, 2)), run(copies[1], (2, 1, 0))
    assert all(torch.equal(one[i], other[i]) for i in range(3))


def test_a_first_batch_without_two_finite_gradients_decides_nothing():
    """Neither does a parameter vector at which nothing is finite."""
    torch.manual_seed(0)
    model = FlatModel(Functional(), (4,))
    x, y = batch(torch.float32)
    theta = model.read()
    engine = PerSampleGradients(model, cross_entropy)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one = engine.clipped_sums(theta, x[:1], y[:1], (1,), clip=1.0)
        lost = engine.clipped_sums(torch.full((model.d,), torch.nan), x, y, (5,), clip=1.0)
    torch.testing.assert_close(one.norms, engine.mean(theta, x[:1], y[:1]).norm()[None].double())
    assert lost.bad.tolist() == [5]
    with pytest.warns(SlowPathWarning, match="Functional: "):
        assert engine.settle(theta, x, y)


def test_settling_refuses_what_a_first_batch_would():
    torch.manual_seed(0)
    x, y = batch(torch.float32)
    model = FlatModel(Centred(), (4,))
    with pytest.raises(ValueError, match="mixes the samples"):
        PerSampleGradients(model, cross_entropy).settle(model.read(), x, y)
    with pytest.raises(ValueError, match="theta has shape"):
        PerSampleGradients(model, cross_entropy).settle(torch.zeros(3), x, y)


class Kinked(Functional):
    """Sits so close to the kink of its ReLU that rounding in float32 chooses the side."""

    def forward(self, x):
        h = self.first(x)
        rounding = torch.finfo(x.dtype).eps * (len(x) - 1.5)
        return self.head(torch.relu(h - h.detach() + 1e-12 + rounding))


class Single(Functional):
    """Insists on float32."""

    def forward(self, x):
        return self.head(self.first(x @ torch.eye(4)))


@pytest.mark.parametrize("make", [Kinked, Single])
@pytest.mark.filterwarnings("ignore::fedsieve.learning.gradients.SlowPathWarning")
def test_rounding_does_not_count_as_mixing(make):
    torch.manual_seed(0)
    model = FlatModel(make(), (4,))
    x, y = batch(torch.float32)
    assert PerSampleGradients(model, cross_entropy).settle(model.read(), x, y)
    assert model.read().dtype == torch.float32
