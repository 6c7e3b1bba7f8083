"""Models whose samples influence each other are refused, however they hide it."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fedsieve.learning.flat import FlatModel
from fedsieve.learning.gradients import PerSampleGradients
from fedsieve.learning.losses import cross_entropy

pytestmark = pytest.mark.filterwarnings("ignore::fedsieve.learning.gradients.SlowPathWarning")


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(5, 3)
        self.register_buffer("mean", torch.zeros(5))
        self.kept = torch.zeros(5)

    def forward(self, x):
        return self.head(self.changed(x))


class CentredInTraining(Base):
    def changed(self, x):
        return x - x.mean(0) if self.training else x


class Mixup(Base):
    def changed(self, x):
        return 0.7 * x + 0.3 * x[torch.randperm(len(x))] if self.training else x


class SeldomMixup(Base):
    """Mixes in every other batch, and by how much is drawn from numpy."""

    def changed(self, x):
        if not self.training or random.random() < 0.5:
            return x
        share = np.random.beta(0.2, 0.2)  # noqa: NPY002 - as many do
        return share * x + (1 - share) * x.flip(0)


class MixupWithDropout(Base):
    def changed(self, x):
        mixed = 0.7 * x + 0.3 * x.roll(1, 0) if self.training else x
        return functional.dropout(mixed, 0.5, self.training)


class LargeBatches(Base):
    def changed(self, x):
        return x - x.mean(0) if len(x) > 2 else x


class LargestNumber(Base):
    def changed(self, x):
        return x / x.abs().amax().clamp(min=10.0)


class Counted(Base):
    """The size of the batch reaches every gradient."""

    def changed(self, x):
        return x * len(x) if self.training else x


class Twins(Base):
    """Looks at samples that are there twice."""

    def changed(self, x):
        return x / (x[:, None] == x).all(2).sum(1, keepdim=True)


class Statistics(Base):
    def changed(self, x):
        if self.training:
            with torch.no_grad():
                self.mean.mul_(0.9).add_(0.1 * x.mean(0))
        return x - self.mean


class Rebound(Base):
    def changed(self, x):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        return x - self.mean.to(x.dtype)


class Idle(Base):
    """Nothing reads the buffer in training; the evaluation would."""

    def changed(self, x):
        if self.training:
            self.mean.add_(x.detach().sum(0))
            return x
        return x - self.mean


class Remembering(Base):
    def changed(self, x):
        x, self.kept = x - self.kept, x.detach()[0]
        return x


def data(size=8):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(size, 5, generator=generator), torch.arange(size) % 3


def engine(make):
    torch.manual_seed(0)
    return PerSampleGradients(FlatModel(make(), (5,)), cross_entropy)


@pytest.mark.parametrize(
    "make",
    [
        CentredInTraining,
        Mixup,
        SeldomMixup,
        MixupWithDropout,
        LargeBatches,
        LargestNumber,
        Counted,
        Twins,
        Remembering,
    ],
)
def test_models_that_mix_samples_are_refused(make):
    gradients = engine(make)
    theta = gradients.model.read()
    with pytest.raises(ValueError, match=f"{make.__name__} mixes the samples of a batch"):
        gradients.settle(theta, *data())
    with pytest.raises(ValueError, match="mixes the samples"):
        gradients.clipped_sums(theta, *data(2), (1, 1), clip=1.0)


@pytest.mark.parametrize("make", [Statistics, Rebound, Idle])
def test_buffers_that_change_in_a_forward_pass_are_refused_by_name(make):
    gradients = engine(lambda: nn.Sequential(nn.Identity(), make()))
    theta = gradients.model.read()
    with pytest.raises(ValueError, match=r"Sequential changes its buffer '1.mean'"):
        gradients.settle(theta, *data())
    with pytest.raises(ValueError, match="changes its buffer"):  # even with one sample
        gradients.clipped_sums(theta, *data(1), (1,), clip=1.0)
    kept = gradients.model.module[1].mean
    assert kept.dtype == torch.float32
    assert not kept.any()


class BatchNormed(Base):
    def changed(self, x):
        return functional.batch_norm(x, None, None, training=self.training)


def test_a_model_that_takes_only_batches_is_refused_for_its_statistics():
    gradients = engine(BatchNormed)
    with pytest.raises(ValueError, match=r"not one alone .* uses statistics of the batch"):
        gradients.settle(gradients.model.read(), *data())


class FromTwenty(Base):
    """Mixes in batches larger than any trial."""

    def changed(self, x):
        return x - x.mean(0) if len(x) >= 20 else x


class FromTwentyDrawing(FromTwenty):
    def changed(self, x):
        return functional.dropout(super().changed(x), 0.5, self.training)


@pytest.mark.parametrize("make", [FromTwenty, FromTwentyDrawing])
def test_real_batches_are_tried_again_when_they_double(make):
    gradients = engine(make)
    theta = gradients.model.read()
    gradients.clipped_sums(theta, *data(10), (10,), clip=1.0)
    gradients.clipped_sums(theta, *data(19), (19,), clip=1.0)
    with pytest.raises(ValueError, match="the gradient of 20 samples"):
        gradients.clipped_sums(theta, *data(20), (10, 10), clip=1.0)
    own = engine(make)  # with parameters of their own, clients have batches of their own
    own.clipped_sums(theta.repeat(2, 1), *data(20), (10, 10), clip=1.0)
    with pytest.raises(ValueError, match="the gradient of 20 samples"):
        own.clipped_sums(theta.repeat(2, 1), *data(30), (10, 20), clip=1.0)


def test_one_sample_among_very_many_is_seen():
    class Large(Base):
        def changed(self, x):
            return x - x.mean(0) if len(x) > 8 else x

    gradients = engine(Large)
    with pytest.raises(ValueError, match="mixes"):
        gradients.clipped_sums(gradients.model.read(), *data(3000), (3000,), clip=1.0)


class Noisy(Base):
    def changed(self, x):
        return functional.dropout(x, 0.5, self.training)


class Looked(Base):
    """Keeps its last activation for somebody to look at, which moves no gradient."""

    def changed(self, x):
        self.kept = x
        return torch.tanh(x)


class Picky(Base):
    """Does not take records out of range: those made up for the trial."""

    def changed(self, x):
        if bool((x.abs() > 5).any()):
            raise ValueError("out of range")
        return x


class PickyAndNoisy(Picky):
    def changed(self, x):
        return functional.dropout(super().changed(x), 0.5, self.training)


def states():
    numpys = np.random.get_state()[1].tolist()  # noqa: NPY002
    return torch.get_rng_state().tolist(), random.getstate(), numpys


@pytest.mark.parametrize("make", [Base, Noisy, Looked, Picky, PickyAndNoisy])
def test_models_that_keep_samples_apart_pass_and_nothing_is_left_behind(make):
    gradients = engine(make if make is not Base else lambda: nn.Linear(5, 3))
    module, theta = gradients.model.module, gradients.model.read()
    kept = getattr(module, "kept", None)
    before = states()
    assert gradients.settle(theta, *data())
    assert states() == before
    assert module.training
    assert getattr(module, "kept", None) is kept
    found = gradients.clipped_sums(theta, *data(40), (40,), clip=1.0)
    assert found.sums.isfinite().all()


def test_tokens_are_tried_as_they_are():
    class Bag(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(7, 4)
            self.head = nn.Linear(4, 3)

        def forward(self, tokens):
            h = self.table(tokens).mean(1)
            return self.head(h if len(h) < 3 else h - h.mean(0))

    torch.manual_seed(0)
    gradients = PerSampleGradients(FlatModel(Bag(), (4,)), cross_entropy)
    x = torch.randint(7, (8, 4), generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="Bag mixes"):
        gradients.settle(gradients.model.read(), x, torch.arange(8) % 3)


class Shaken(nn.Module):
    """Adds noise to what it is given: to every sample its own, but in evaluation mode too."""

    def __init__(self, always):
        super().__init__()
        self.always = always
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        if self.always or self.training:
            x = x + torch.randn(x.shape)
        return self.head(x)


def test_a_model_that_draws_when_it_is_evaluated_is_refused_for_that():
    torch.manual_seed(0)
    for always in (False, True):
        gradients = PerSampleGradients(FlatModel(Shaken(always), (5,)), cross_entropy)
        theta = gradients.model.read()
        if not always:
            assert gradients.settle(theta, *data())
            continue
        told = "Shaken draws random numbers in its forward pass, in evaluation mode too"
        with pytest.raises(ValueError, match=told):
            gradients.settle(theta, *data())


def test_a_loss_that_mixes_samples_is_refused():
    def scaled(outputs, targets):
        losses = cross_entropy(outputs, targets)
        return losses / losses.max()

    gradients = PerSampleGradients(FlatModel(nn.Linear(5, 3), (5,)), scaled)
    with pytest.raises(ValueError, match="mixes the samples"):
        gradients.settle(gradients.model.read(), *data())


def test_known_layers_with_a_hook_are_tried():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 3))
    net[0].register_forward_hook(lambda layer, args, out: out - out.mean(0))
    gradients = PerSampleGradients(FlatModel(net, (5,)), cross_entropy)
    with pytest.raises(ValueError, match="mixes the samples"):
        gradients.settle(gradients.model.read(), *data())


def test_samples_that_are_fitted_already_pass():
    """Their gradients are mere rounding, which differs between batches."""
    gradients = engine(Looked)
    x, y = data(40)
    model = gradients.model
    theta = model.read()
    scores = model.bind(theta)(x)
    y = scores.argmax(1)
    assert gradients.settle(1e4 * theta, x, y)
    assert gradients.clipped_sums(1e4 * theta, x, y, (40,), clip=1.0).sums.isfinite().all()


def test_scalar_tokens_are_tried():
    class Scalar(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(7, 3)

        def forward(self, tokens):
            return torch.tanh(self.table(tokens))

    gradients = PerSampleGradients(FlatModel(Scalar(), ()), cross_entropy)
    x, y = torch.arange(6), torch.arange(6) % 3
    found = gradients.clipped_sums(gradients.model.read(), x, y, (6,), clip=1.0)
    assert found.sums.isfinite().all()
