from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from fedsieve.learning.flat import FlatModel
from fedsieve.learning.losses import LOSSES, cross_entropy, evaluate, squared_error


def test_losses_are_per_sample():
    outputs = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])
    found = cross_entropy(outputs, torch.tensor([1, 0]))
    torch.testing.assert_close(found, torch.tensor([math.log(4 / 3), math.log(2)]))
    for shape in ((2,), (2, 1)):
        found = squared_error(torch.tensor([1.0, 5.0]).view(shape), torch.tensor([1.0, 2.0]))
        assert found.tolist() == [0.0, 4.5]
    assert {"classification": cross_entropy, "regression": squared_error} == LOSSES


class ZeroInTraining(nn.Module):
    def forward(self, x):
        return 0.0 * x if self.training else x


@pytest.mark.parametrize("chunk", [1, 3, 1000])
def test_evaluation_of_classes(chunk):
    generator = torch.Generator().manual_seed(0)
    model = FlatModel(nn.Sequential(nn.Linear(3, 4), ZeroInTraining()), (3,))
    theta = torch.randn(model.d, generator=generator)
    x = torch.randint(0, 255, (10, 3), generator=generator, dtype=torch.uint8)
    y = torch.randint(4, (10,), generator=generator)
    found = evaluate(
        model, theta, x, y, cross_entropy, normalise=lambda t: t.float() / 255, chunk=chunk
    )
    scores = x.float() / 255 @ theta[:12].view(4, 3).t() + theta[12:]
    assert found.accuracy == int((scores.argmax(1) == y).sum()) / 10
    assert found.loss == pytest.approx(float(cross_entropy(scores, y).mean()), rel=1e-6)
    assert model.module.training  # as it was


def test_evaluation_of_a_regression():
    model = FlatModel(nn.Linear(1, 1, bias=False), (1,))
    x, y = torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([1.0, 2.0, 6.0])
    found = evaluate(model, torch.tensor([1.0]), x, y, squared_error, chunk=2)
    assert found.loss == pytest.approx(1.5)
    assert found.accuracy == pytest.approx(1 - 9 / 14)  # residual 9, spread 4 + 1 + 9
    same = evaluate(model, torch.tensor([1.0]), x, torch.ones(3), squared_error)
    assert math.isnan(same.accuracy)


def test_training_goes_on_after_an_evaluation():
    model = FlatModel(nn.Linear(2, 2), (2,))
    theta, x = torch.zeros(model.d), torch.ones(1, 2)
    evaluate(model, theta, x, torch.tensor([0]), cross_entropy)
    module = model.bind(theta)
    module.weight.requires_grad_(True)
    cross_entropy(module(x), torch.tensor([0])).sum().backward()
    assert module.weight.grad is not None


@pytest.mark.parametrize(("size", "chunk"), [(0, 10), (2, 0)])
def test_nothing_to_evaluate_is_refused(size, chunk):
    model = FlatModel(nn.Linear(2, 2), (2,))
    x, y = torch.zeros(size, 2), torch.zeros(size, dtype=torch.int64)
    with pytest.raises(ValueError, match=f"{size} records with chunk={chunk}"):
        evaluate(model, model.read(), x, y, cross_entropy, chunk=chunk)
