"""Steps in place whose derivatives are written out, against autograd."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fedsieve.learning.flat import FlatModel
from fedsieve.learning.gradients import PerSampleGradients
from fedsieve.learning.losses import cross_entropy


def label_smoothing(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, targets, reduction="none", label_smoothing=0.1)


@pytest.mark.parametrize("loss", [cross_entropy, label_smoothing])
@pytest.mark.parametrize(
    "activation",
    [nn.ReLU(), nn.ReLU(inplace=True), nn.Tanh(), nn.Sigmoid(), nn.Identity(), nn.GELU()],
)
@pytest.mark.parametrize("bias", [True, False])
def test_a_step_is_what_autograd_says(loss, activation: nn.Module, bias: bool):
    generator = torch.Generator().manual_seed(5)
    module = nn.Sequential(
        nn.Flatten(), nn.Linear(6, 7, bias=bias), activation, nn.Linear(7, 5), activation,
        nn.Sequential(nn.Linear(5, 4, bias=bias)),
    ).double()  # fmt: skip
    reference = copy.deepcopy(module)
    x = torch.randn(8, 2, 3, generator=generator, dtype=torch.float64)
    y = torch.randint(0, 4, (8,), generator=generator)
    engine = PerSampleGradients(FlatModel(module, (2, 3)), loss)
    assert engine._linear is not None
    known = loss is cross_entropy and not isinstance(activation, nn.GELU)
    assert engine._linear._written == known
    theta = engine.model.read()
    parameters = [p.requires_grad_() for p in reference.parameters()]
    gradients = torch.autograd.grad(loss(reference(x), y).mean(), parameters)
    expected = [p.detach() - 0.3 * g for p, g in zip(parameters, gradients, strict=True)]
    engine.descend(theta, x, y, lr=0.3)
    for view, value in zip(engine.model.views(theta), expected, strict=True):
        torch.testing.assert_close(view, value, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("wrong", [4, -1])
def test_a_class_that_is_none_is_refused(wrong: int):
    engine = PerSampleGradients(FlatModel(nn.Linear(6, 4), (6,)), cross_entropy)
    with pytest.raises((IndexError, RuntimeError)):
        engine.descend(engine.model.read(), torch.zeros(1, 6), torch.tensor([wrong]), lr=0.3)
